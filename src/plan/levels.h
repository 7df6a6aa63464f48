// Levels: the names that people know (Q4_K_M, ...), each a mixture of formats by the place of a
// tensor in the network. The mixtures and the file type numbers are those of llama.cpp, so that
// files are of equal size.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "format/format.h"

namespace nibble {

/// What a matrix does in the network, by its GGUF name.
enum class Role {
  embedding,
  output,  // the head; also an embedding that is the head (tied)
  attn_v,  // also q, k and v in one matrix
  attn_k,
  attn_q,
  attn_output,
  ffn_up,
  ffn_gate,
  ffn_down,
  other,
};
Role role_of(std::string_view tensor);

/// True for matrices that a level gives a format; false for norms, biases, routers and the other
/// small or delicate tensors that stay as they are.
bool is_quantizable(std::string_view tensor, std::size_t dims);

/// What a rule may ask about the place of a matrix.
struct Site {
  Role role = Role::other;
  int index = 0, count = 0;  // which one of its role, among how many
  int heads_per_kv = 1;
  int experts = 0;
  bool importance = false;    // rounding knows the importance of columns
  bool shared_value = false;  // an 80-layer model whose value matrices serve eight heads each
};

struct Rule {
  Role role;
  bool (*when)(const Site&);
  const char* format;
};

struct Level {
  std::string_view name;  // "Q4_K_M"
  std::uint32_t file_type;
  const char* format;           // for every matrix without a rule
  const char* output;           // for the head
  std::span<const Rule> rules;  // the first that fits decides
  bool few_bits = false;        // about two: keys and values get no more bits for being few
};

std::span<const Level> level_table();
/// Those that people choose from, the largest first.
std::span<const std::string_view> usual_levels();
/// Names in any case, and aliases (Q4_K is Q4_K_M). nullptr if there is none.
const Level* find_level(std::string_view name);

/// The format that `level` has for a matrix.
const Format& level_format(const Level& level, const Site& site);

/// For matrices whose rows are no multiple of the block of `format`: the best format of 32 columns
/// a block in no more bytes than llama.cpp's own choice, or F16 where even 32 does not fit. Returns
/// `format` where it fits. `head`: it is what a level has for the head.
const Format& fitting_format(const Format& format, std::uint64_t columns, bool head);

}  // namespace nibble
