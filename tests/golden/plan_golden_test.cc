// Plans against llama.cpp's own (plans/*.txt, made by make_plans.py), tensor by tensor.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "plan/plan.h"

namespace nibble {
namespace {

struct Golden {
  PlanInput input;
  int hidden = 0, kv_width = 0, inner = 0;
  std::vector<std::string> lines;
};

Golden read_golden(const std::filesystem::path& path) {
  Golden golden;
  std::ifstream file(path);
  std::string line, key;
  std::getline(file, line);
  std::istringstream first(line);
  int size = 0, tied = 0;
  PlanInput& in = golden.input;
  first >> key >> in.arch >> key >> in.layers >> key >> in.heads >> key >> in.kv_heads >> key >>
      size >> key >> golden.inner >> key >> in.experts >> key >> tied;
  golden.hidden = in.heads * size;
  golden.kv_width = in.kv_heads * size;
  while (std::getline(file, line)) golden.lines.push_back(line);
  return golden;
}

std::vector<std::uint64_t> shape_of(const Golden& golden, const std::string& role) {
  const auto has = [&](const char* part) { return role.find(part) != role.npos; };
  const auto n = [](int x) { return std::uint64_t(x); };
  std::vector<std::uint64_t> shape;
  if (has("_exps")) shape.push_back(n(golden.input.experts));
  if (has("norm")) return {n(golden.hidden)};
  const bool down = has("ffn_down"), kv = has("attn_k.") || has("attn_v.");
  const int rows = has("ffn_gate_inp")                ? golden.input.experts
                   : has("ffn_up") || has("ffn_gate") ? golden.inner
                   : kv                               ? golden.kv_width
                   : has("blk")                       ? golden.hidden
                                                      : 256;
  shape.push_back(n(rows));
  shape.push_back(n(down ? golden.inner : golden.hidden));
  return shape;
}

/// "blk.*.attn_v.weight q6_k*3 q4_k*2": adds the tensors and what llama.cpp makes of them.
void add_role(Golden& golden, const std::string& text, std::vector<std::string>& formats) {
  std::istringstream words(text);
  std::string role, run;
  words >> role;
  for (int layer = 0; words >> run;) {
    const auto star = run.find('*');
    for (int n = std::stoi(run.substr(star + 1)); n > 0; --n, ++layer) {
      std::string name = role;
      if (const auto at = name.find('*'); at != name.npos)
        name.replace(at, 1, std::to_string(layer));
      TensorInfo tensor{name, shape_of(golden, role), find_format("f32"), 0};
      if (tensor.shape.size() > 1 && role.find("inp") == role.npos)
        tensor.format = find_format("f16");
      golden.input.tensors.push_back(tensor);
      formats.push_back(run.substr(0, star));
    }
  }
}

void check_line(Golden golden, const std::string& line) {
  SCOPED_TRACE(line.substr(0, line.find(':')));
  std::istringstream parts(line);
  std::string level, importance, role;
  parts >> level >> importance;
  std::vector<std::string> formats;
  while (std::getline(parts, role, ',')) add_role(golden, role, formats);
  const auto plan = make_plan(golden.input, *parse_target(level), {}, importance == "1:");
  ASSERT_TRUE(plan) << plan.error().message();
  for (std::size_t i = 0; i < formats.size(); ++i) {
    const TensorInfo& tensor = plan->tensors[i].tensor;
    // Rows that do not fit blocks of 256: llama.cpp takes q4_0 below four bits, we iq4_nl.
    const bool narrow = formats[i] == "q4_0" && plan->tensors[i].wanted->block() == 256;
    EXPECT_EQ(tensor.format->id(), narrow ? "iq4_nl" : formats[i]) << tensor.name;
    EXPECT_EQ(
        tensor.format->spec().bytes * 32 / std::size_t(tensor.format->block()),
        find_format(formats[i])->spec().bytes * 32 / std::size_t(find_format(formats[i])->block()));
  }
}

TEST(PlanGolden, SameMixturesAsLlamaCpp) {
  int shapes = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(NIBBLE_TEST_DATA) + "/golden/plans")) {
    SCOPED_TRACE(entry.path().filename().string());
    const Golden golden = read_golden(entry.path());
    ASSERT_EQ(golden.lines.size(), 66u);
    for (const std::string& line : golden.lines) check_line(golden, line);
    ++shapes;
  }
  EXPECT_EQ(shapes, 5);
}

}  // namespace
}  // namespace nibble
