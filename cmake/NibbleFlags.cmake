# Flags every nibble target is built with: an interface target, so that nothing leaks to users of the library.
add_library(nibble_flags INTERFACE)
target_compile_options(nibble_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  # No contraction into fused multiply-adds: the same source gives the same bits on every instruction set.
  -ffp-contract=off -fvisibility=hidden)
if(NIBBLE_WERROR)
  target_compile_options(nibble_flags INTERFACE -Werror)
endif()
if(NIBBLE_SANITIZE)
  target_compile_options(nibble_flags INTERFACE -fsanitize=${NIBBLE_SANITIZE} -fno-omit-frame-pointer -g
    -fno-sanitize-recover=all)
  target_link_options(nibble_flags INTERFACE -fsanitize=${NIBBLE_SANITIZE})
endif()
