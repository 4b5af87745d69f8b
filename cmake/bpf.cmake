# bulkhead_bpf_skeleton(TARGET SOURCE): compiles SOURCE.bpf.c of this folder with clang and makes SOURCE.skel.h; a header edit
# rebuilds it (depfile). TARGET is an INTERFACE library with the include path. The prefix map keeps the folder of this
# tree out of BTF, which names source files.
find_program(BPF_CLANG NAMES clang-14 clang REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip-14 llvm-strip REQUIRED)
find_program(BPFTOOL bpftool PATHS /usr/sbin /sbin REQUIRED)

function(bulkhead_bpf_skeleton target source)
  set(dir ${PROJECT_BINARY_DIR}/generated/bpf)
  file(MAKE_DIRECTORY ${dir})
  set(object ${dir}/${source}.bpf.o)
  set(skeleton ${dir}/${source}.skel.h)
  add_custom_command(OUTPUT ${object}
    COMMAND ${BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter
            -Wno-missing-field-initializers
            -fdebug-prefix-map=${PROJECT_SOURCE_DIR}=. -I ${PROJECT_SOURCE_DIR} -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
            -MMD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source}.bpf.c -o ${object}
    COMMAND ${BPF_STRIP} -g ${object}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source}.bpf.c DEPFILE ${object}.d VERBATIM)
  add_custom_command(OUTPUT ${skeleton}
    COMMAND sh -c "'${BPFTOOL}' gen skeleton '${object}' name ${source} > '${skeleton}'" DEPENDS ${object} VERBATIM)
  add_custom_target(${target}_generate DEPENDS ${skeleton})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_generate)
  target_include_directories(${target} SYSTEM INTERFACE ${dir})
endfunction()
