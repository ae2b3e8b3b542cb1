package eunomia

// #include "callback.h"
import "C"

// TypeKind is the kind of a type, without typedefs and qualifiers.
type TypeKind uint32

// Kinds of types.
const (
	TypeInt     TypeKind = C.EUNOMIA_TYPE_INT
	TypeUint    TypeKind = C.EUNOMIA_TYPE_UINT
	TypeBool    TypeKind = C.EUNOMIA_TYPE_BOOL
	TypeChar    TypeKind = C.EUNOMIA_TYPE_CHAR
	TypeFloat   TypeKind = C.EUNOMIA_TYPE_FLOAT
	TypeEnum    TypeKind = C.EUNOMIA_TYPE_ENUM
	TypePointer TypeKind = C.EUNOMIA_TYPE_POINTER
	TypeArray   TypeKind = C.EUNOMIA_TYPE_ARRAY
	TypeStruct  TypeKind = C.EUNOMIA_TYPE_STRUCT
	TypeUnion   TypeKind = C.EUNOMIA_TYPE_UNION
)

// Type is a C type of a package. It is a Go value that outlives the vm.
type Type struct {
	Name    string
	Kind    TypeKind
	Size    int     // bytes
	Fields  []Field // the members or constants; empty for an array
	Element *Type   // the element type of an array
	Count   int     // the number of elements of an array
}

// Field is a member of a struct or union, or a constant of an enum. Only a constant has a Value.
type Field struct {
	Name      string
	Type      *Type
	BitOffset int
	BitSize   int
	Value     int64
}

// typeOf converts a type, once. The caller holds the vm's turn.
func (vm *VM) typeOf(c *C.eunomia_type) *Type {
	if c == nil {
		return nil
	}
	known := vm.types[c]
	if known == nil {
		known = vm.convert(c)
		vm.types[c] = known
	}
	return known
}

func (vm *VM) convert(c *C.eunomia_type) *Type {
	kind := TypeKind(C.eunomia_type_kind_of(c))
	count := int(C.eunomia_type_count(c))
	of := &Type{Name: C.GoString(C.eunomia_type_name(c)), Kind: kind, Size: int(C.eunomia_type_size(c))}
	if kind == TypeArray {
		of.Count = count
		if count > 0 { // all elements have the same type
			of.Element = vm.field(c, 0).Type
		}
		return of
	}
	for i := 0; i < count; i++ {
		of.Fields = append(of.Fields, vm.field(c, i))
	}
	return of
}

func (vm *VM) field(c *C.eunomia_type, index int) Field {
	found := C.eunomia_field{size: C.sizeof_eunomia_field}
	C.eunomia_type_field(c, C.uint32_t(index), &found)
	return Field{
		Name: C.GoString(found.name), Type: vm.typeOf(found._type),
		BitOffset: int(found.bit_offset), BitSize: int(found.bit_size), Value: int64(found.value),
	}
}
