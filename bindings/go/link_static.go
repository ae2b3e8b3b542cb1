//go:build eunomia_static

package eunomia

// pkg-config prints the directories. It also names the shared library, which the linker does not need,
// because the archive contains everything.

// #cgo LDFLAGS: -Wl,--as-needed -l:libeunomia.a -lgcc_s -lm
// #cgo pkg-config: eunomia
import "C"
