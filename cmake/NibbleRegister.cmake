# nibble_register(<kind> <name> [ISA] [FOLDER <folder>])
#
# Adds src/<folder>/<name>.cc (folder: the kind, unless given) to the library and one line to the generated registry of
# that kind. The file defines
#   const Base& nibble::registry::<kind>_<name>();
# (Base is Format, Rounder, Arch, ... as listed below). Self-registering statics would vanish from a static archive.
#
# With ISA, the file is compiled once per instruction set in `namespace nibble::NIBBLE_ISA`, and the entry point is
#   const Base& nibble::<isa>::<kind>_<name>();
# Only the instruction sets of the target processor are built; which one runs is chosen at run time (base/cpu.h).

set(NIBBLE_BASE_format Format)
set(NIBBLE_BASE_family FormatFamily)
set(NIBBLE_BASE_round Rounder)
set(NIBBLE_BASE_transform Transform)
set(NIBBLE_BASE_arch Arch)
set(NIBBLE_BASE_container Container)
set(NIBBLE_BASE_scheme Scheme)
set(NIBBLE_BASE_kernel Kernel)
set(NIBBLE_BASE_ops Ops)
set(NIBBLE_BASE_search BlockSearch)
set(NIBBLE_BASE_feedback Feedback)
set(NIBBLE_BASE_gram Gram)
set(NIBBLE_HEADER_format format/format.h)
set(NIBBLE_HEADER_family format/format.h)
set(NIBBLE_HEADER_round round/rounder.h)
set(NIBBLE_HEADER_transform transform/transform.h)
set(NIBBLE_HEADER_arch arch/arch.h)
set(NIBBLE_HEADER_container container/container.h)
set(NIBBLE_HEADER_scheme container/scheme.h)
set(NIBBLE_HEADER_kernel kernel/kernel.h)
set(NIBBLE_HEADER_ops kernel/ops.h)
set(NIBBLE_HEADER_search round/rows.h)
set(NIBBLE_HEADER_feedback round/gptq.h)
set(NIBBLE_HEADER_gram calib/moments.h)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(NIBBLE_TARGET_ISAS scalar avx2 avx512 avx512vnni avx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(NIBBLE_TARGET_ISAS scalar neon)
else()
  set(NIBBLE_TARGET_ISAS scalar)
endif()
if(NIBBLE_ISAS)  # scalar is what every processor falls back to; the order, worst first, is kept
  foreach(isa ${NIBBLE_ISAS})
    if(NOT isa IN_LIST NIBBLE_TARGET_ISAS)
      message(FATAL_ERROR "NIBBLE_ISAS: ${isa} is none of ${NIBBLE_TARGET_ISAS}")
    endif()
  endforeach()
  set(wanted scalar ${NIBBLE_ISAS})
  foreach(isa ${NIBBLE_TARGET_ISAS})
    if(NOT isa IN_LIST wanted)
      list(REMOVE_ITEM NIBBLE_TARGET_ISAS ${isa})
    endif()
  endforeach()
endif()
# Vectorising code written for vector registers without having any costs minutes of compile time and gains nothing.
set(NIBBLE_FLAGS_scalar -O2)
set(NIBBLE_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(NIBBLE_FLAGS_avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
    # false alarms inside GCC 12's own avx512fintrin.h
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
if(NIBBLE_EMULATE_AVX512)  # the intrinsics written out, and vectors of 64 bytes in halves
  set(NIBBLE_FLAGS_avx512 -O2 -mavx2 -mfma -mf16c -I${CMAKE_SOURCE_DIR}/tests/emulation)
  set(NIBBLE_FLAGS_avx512vnni ${NIBBLE_FLAGS_avx512})
  set(NIBBLE_FLAGS_avx512bf16 ${NIBBLE_FLAGS_avx512})
else()
  set(NIBBLE_FLAGS_avx512vnni ${NIBBLE_FLAGS_avx512} -mavx512vnni)
  set(NIBBLE_FLAGS_avx512bf16 ${NIBBLE_FLAGS_avx512vnni} -mavx512bf16)
endif()
set(NIBBLE_FLAGS_neon -march=armv8.2-a+dotprod+fp16)

# Compiles `file` once per instruction set, with NIBBLE_ISA naming the inner namespace, into the library `nibble`.
# Such a file includes intrinsics, C headers and headers without inline functions of std:: only (a test looks).
function(nibble_isa_source file)
  get_filename_component(stem ${file} NAME_WE)
  get_filename_component(dir ${file} DIRECTORY)
  get_filename_component(kind ${dir} NAME)
  foreach(isa ${NIBBLE_TARGET_ISAS})
    set(object nibble_isa_${kind}_${stem}_${isa})
    add_library(${object} OBJECT ${file})
    target_include_directories(${object} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
    target_link_libraries(${object} PRIVATE nibble_flags)
    target_compile_definitions(${object} PRIVATE NIBBLE_ISA=${isa} NIBBLE_ISA_${isa}=1)
    if(isa MATCHES "^avx512.")  # what avx512 has, and more
      target_compile_definitions(${object} PRIVATE NIBBLE_ISA_avx512=1)
    endif()
    # Reassociated integer sums need more registers than there are.
    target_compile_options(${object} PRIVATE -O3 -fno-exceptions -fno-rtti -Wno-psabi
      $<$<CXX_COMPILER_ID:GNU>:-fno-tree-reassoc> ${NIBBLE_FLAGS_${isa}})
    target_sources(nibble PRIVATE $<TARGET_OBJECTS:${object}>)
    set_property(GLOBAL APPEND PROPERTY NIBBLE_ISA_OBJECTS ${object})
  endforeach()
endfunction()

function(nibble_register kind name)
  cmake_parse_arguments(PARSE_ARGV 2 arg "ISA" "FOLDER" "")
  if(NOT arg_FOLDER)
    set(arg_FOLDER ${kind})
  endif()
  set_property(GLOBAL APPEND PROPERTY NIBBLE_KINDS ${kind})
  set(file ${CMAKE_SOURCE_DIR}/src/${arg_FOLDER}/${name}.cc)
  if(arg_ISA)
    nibble_isa_source(${file})
    foreach(isa ${NIBBLE_TARGET_ISAS})
      set_property(GLOBAL APPEND PROPERTY NIBBLE_ENTRIES_${kind} ${isa}::${kind}_${name})
    endforeach()
  else()
    target_sources(nibble PRIVATE ${file})
    set_property(GLOBAL APPEND PROPERTY NIBBLE_ENTRIES_${kind} registry::${kind}_${name})
  endif()
endfunction()

# Writes <build>/registry/<kind>.cc for every kind: `std::span<const Base* const> nibble::<kind>_registry()`.
function(nibble_write_registries target)
  get_property(kinds GLOBAL PROPERTY NIBBLE_KINDS)
  list(REMOVE_DUPLICATES kinds)
  foreach(kind ${kinds})
    get_property(entries GLOBAL PROPERTY NIBBLE_ENTRIES_${kind})
    set(declare "")
    set(rows "")
    foreach(entry ${entries})
      string(REGEX MATCH "^(.*)::(.*)$" _ ${entry})
      string(APPEND declare "namespace ${CMAKE_MATCH_1} {\nconst ${NIBBLE_BASE_${kind}}& ${CMAKE_MATCH_2}();\n}\n")
      string(APPEND rows "      &${entry}(),\n")
    endforeach()
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/registry/${kind}.cc @ONLY CONTENT
"// Written by CMake from the nibble_register lines.
#include <span>

#include \"${NIBBLE_HEADER_${kind}}\"

namespace nibble {
${declare}
std::span<const ${NIBBLE_BASE_${kind}}* const> ${kind}_registry() {
  static const ${NIBBLE_BASE_${kind}}* const all[] = {
${rows}  };
  return all;
}
}  // namespace nibble
")
    target_sources(${target} PRIVATE ${CMAKE_BINARY_DIR}/registry/${kind}.cc)
  endforeach()
endfunction()
