# BULKHEAD_PORTABLE: programs that run on every Debian from 12 on. What has another soname on each release is linked from
# its .a file; what keeps its soname (libc, libstdc++, OpenSSL, zlib, libelf, libsystemd, SQLite, prometheus-cpp) stays
# shared, so that the host's security updates reach it. docs/packaging.md lists both.

# The library as an archive; an error when there is none, since a shared one would tie the package to this release.
function(bulkhead_archive out name)
  find_library(BULKHEAD_ARCHIVE_${name} lib${name}.a REQUIRED)
  set(${out} ${BULKHEAD_ARCHIVE_${name}} PARENT_SCOPE)
endfunction()

# pkg-config says what grpc++ needs when it is linked statically.
set(kept_shared ssl crypto z dl rt atomic pthread m)
set(archives)
foreach(name IN LISTS GRPC_STATIC_LIBRARIES)
  if(NOT name IN_LIST kept_shared)
    bulkhead_archive(archive ${name})
    list(APPEND archives ${archive})
  endif()
endforeach()
list(REMOVE_DUPLICATES archives)
bulkhead_archive(protobuf_archive protobuf)
bulkhead_archive(yaml_archive yaml-cpp)

target_link_libraries(bulkhead_protobuf INTERFACE ${protobuf_archive} ZLIB::ZLIB Threads::Threads)
# By name and not as targets: CMake would name each shared library once, before the archives that need it.
target_link_libraries(bulkhead_grpc INTERFACE -Wl,--start-group ${archives} ${protobuf_archive} -Wl,--end-group
                                              -lssl -lcrypto -lz -ldl -lrt Threads::Threads)
target_compile_options(bulkhead_grpc INTERFACE ${GRPC_STATIC_CFLAGS})
target_link_libraries(bulkhead_yaml INTERFACE ${yaml_archive})
# Debian has no libfmt.a.
target_link_libraries(bulkhead_options INTERFACE tl::expected fmt::fmt-header-only)
