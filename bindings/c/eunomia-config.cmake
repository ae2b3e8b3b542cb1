# find_package(eunomia) gives eunomia::eunomia, the shared library, and eunomia::static.
get_filename_component(_eunomia_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET eunomia::eunomia)
    add_library(eunomia::eunomia SHARED IMPORTED)
    set_target_properties(eunomia::eunomia PROPERTIES
        IMPORTED_LOCATION "${_eunomia_prefix}/lib/libeunomia.so"
        INTERFACE_INCLUDE_DIRECTORIES "${_eunomia_prefix}/include")

    add_library(eunomia::static STATIC IMPORTED)
    set_target_properties(eunomia::static PROPERTIES
        IMPORTED_LOCATION "${_eunomia_prefix}/lib/libeunomia.a"
        INTERFACE_INCLUDE_DIRECTORIES "${_eunomia_prefix}/include"
        INTERFACE_LINK_LIBRARIES m)
endif()

unset(_eunomia_prefix)
