//! Compares a new version of a package with the running one: which maps keep their content, which programs have the same
//! hook. This part only compares; the session carries it out.

pub mod maps;
pub mod programs;
