//go:build eunomia_static

package eunomia

// pkg-config tells the folders. It names the shared library too, which is not needed once the archive has everything.

// #cgo LDFLAGS: -Wl,--as-needed -l:libeunomia.a -lgcc_s -lm
// #cgo pkg-config: eunomia
import "C"
