// What is in a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nibble/error.h"

namespace nibble {

struct InspectedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // as the file states it: GGUF fastest first, safetensors
                                     // outermost first
  std::string format;
  std::uint64_t bytes = 0;
};

struct InspectedField {
  std::string key;
  std::string type;          // "u32", "string", "[f32]"
  std::string json;          // the value as JSON; of a long array the first elements
  std::uint64_t length = 0;  // elements of an array, else 0
};

struct Inspection {
  std::vector<std::string> files;
  std::string format;        // "gguf", "safetensors"
  std::string architecture;  // general.architecture, or the first of config.json; empty: not stated
  std::uint64_t parameters = 0, bytes = 0, tensor_bytes = 0;  // bytes: of the files
  double bits_per_weight = 0;                                 // of the tensors
  std::vector<InspectedField> metadata = {};
  std::vector<InspectedTensor> tensors = {};
  std::vector<std::string> notes = {};  // what is odd about it
};

/// Arrays longer than `array_limit` elements are cut in InspectedField::json.
Result<Inspection> inspect(const std::string& path, std::uint64_t array_limit = 8);

}  // namespace nibble
