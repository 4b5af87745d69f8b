# Generated code is SYSTEM: our warnings do not apply to it.
find_program(PROTOC protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# bulkhead_proto_sources(OUT_VARIABLE SERVICES|MESSAGES NAME...): generated sources of common/proto/NAME.proto
function(bulkhead_proto_sources out kind)
  set(sources)
  foreach(name IN LISTS ARGN)
    set(proto ${PROJECT_SOURCE_DIR}/common/proto/${name}.proto)
    set(dir ${PROJECT_BINARY_DIR}/generated/proto)
    file(MAKE_DIRECTORY ${dir})
    if(kind STREQUAL "SERVICES")
      set(outputs ${dir}/${name}.grpc.pb.cc ${dir}/${name}.grpc.pb.h)
      set(arguments --grpc_out=${dir} --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN})
    else()
      set(outputs ${dir}/${name}.pb.cc ${dir}/${name}.pb.h)
      set(arguments --cpp_out=${dir})
    endif()
    add_custom_command(OUTPUT ${outputs}
      COMMAND ${PROTOC} -I ${PROJECT_SOURCE_DIR}/common/proto ${arguments} ${proto}
      DEPENDS ${PROJECT_SOURCE_DIR}/common/proto/record.proto ${PROJECT_SOURCE_DIR}/common/proto/policy.proto
              ${PROJECT_SOURCE_DIR}/common/proto/controller.proto ${proto}
      VERBATIM)
    list(APPEND sources ${outputs})
  endforeach()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
