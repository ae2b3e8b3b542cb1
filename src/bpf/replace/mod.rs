//! Compares a new version of a package with the running one: which maps keep their content. This part only compares; the
//! session carries it out.

pub mod maps;
