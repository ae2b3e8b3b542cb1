//go:build !eunomia_static

package eunomia

// #cgo pkg-config: eunomia
import "C"
