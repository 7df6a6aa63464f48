// Loops over bytes and floats outside of the files that are compiled per instruction set.
#pragma once

/// Compiles a function once more for processors with AVX2; the loader chooses. Without fused
/// operations, results stay the same. Sanitizers do not get along with functions that are chosen so
/// early.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NIBBLE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define NIBBLE_CLONES
#endif
