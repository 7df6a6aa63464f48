// What every architecture must keep, for each class name it knows and several configurations.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "support/memory_source.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

struct Case {
  const Arch* arch;
  std::string name;
  Json config;
};

/// Changes of the small configuration. Architectures may refuse those after the first.
std::vector<Json> variants() {
  const Json list = Json::parse(R"([
    {},
    {"tie_word_embeddings": true},
    {"tie_word_embeddings": false},
    {"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": false},
    {"num_key_value_heads": 4, "tie_word_embeddings": true},
    {"rope_scaling": {"type": "linear", "factor": 4.0}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                      "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0,
                      "original_max_position_embeddings": 16}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.9,
                      "original_max_position_embeddings": 16}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}},
    {"use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1},
    {"sliding_window": 5, "sliding_window_pattern": 3,
     "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    {"sliding_window": null, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 5.0}
  ])");
  return {list.begin(), list.end()};
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const Arch* arch : arch_registry())
    for (const std::string_view name : arch->hf_architectures())
      for (const Json& change : variants()) {
        Json config = small_config(name);
        config.update(change);
        const bool first = change.empty();
        const auto parsed = arch->from_hf(config);
        EXPECT_TRUE(parsed || !first) << name << ": " << parsed.error().message();
        if (parsed) out.push_back({arch, std::string(name) + " " + change.dump(), config});
      }
  return out;
}

Graph graph_of(const Case& c) { return c.arch->graph(*c.arch->from_hf(c.config)); }

std::vector<const Node*> nodes_of(const Graph& graph) {
  std::vector<const Node*> out;
  for (const Node& node : graph.before) out.push_back(&node);
  for (const auto& block : graph.blocks)
    for (const Node& node : block) out.push_back(&node);
  for (const Node& node : graph.after) out.push_back(&node);
  return out;
}

TEST(Arch, NamesAreUnique) {
  std::set<std::string_view> seen;
  for (const Arch* arch : arch_registry()) {
    EXPECT_TRUE(seen.insert(arch->id()).second) << arch->id();
    EXPECT_FALSE(arch->hf_architectures().empty());
    for (const auto name : arch->hf_architectures()) EXPECT_TRUE(seen.insert(name).second) << name;
  }
  EXPECT_GE(cases().size(), 4 * arch_registry().size());
}

/// Hugging Face -> GGUF -> the same configuration, weights and metadata.
TEST(Arch, GgufSaysTheSame) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto hf = Model::from(small_checkpoint(*c.arch, c.config));
    ASSERT_TRUE(hf) << hf.error().message();
    const auto gguf = Model::from(as_gguf(*hf));
    ASSERT_TRUE(gguf) << gguf.error().message();
    EXPECT_TRUE(gguf->config() == hf->config());
    EXPECT_EQ(&gguf->arch(), c.arch);
    EXPECT_EQ(gguf_metadata(*gguf).entries(), gguf_metadata(*hf).entries());
    ASSERT_EQ(gguf->tensors().size(), hf->tensors().size());
    for (std::size_t i = 0; i < hf->tensors().size(); ++i) {
      const TensorInfo& info = hf->tensors()[i];
      EXPECT_EQ(gguf->tensors()[i].name, info.name);
      std::vector<float> a(info.elements()), b(info.elements());
      hf->load_rows(i, 0, info.rows(), a.data());
      gguf->load_rows(i, 0, info.rows(), b.data());
      EXPECT_EQ(a, b) << info.name;
    }
  }
}

TEST(Arch, WeightsAreNamedOnceAndReadByNodes) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Graph graph = graph_of(c);
    std::set<std::string> names, read, hf_names;
    for (const Weight& weight : graph.weights) {
      EXPECT_TRUE(names.insert(weight.name).second) << weight.name;
      EXPECT_LT(weight.name.size(), 64u);
      EXPECT_EQ(weight.shape.size(), weight.role == Weight::Role::embedding ||
                                             weight.role == Weight::Role::head ||
                                             weight.role == Weight::Role::matrix
                                         ? 2u
                                         : 1u);
    }
    for (const Node* node : nodes_of(graph))
      for (const std::string& name : {node->weight, node->bias})
        if (!name.empty()) {
          EXPECT_TRUE(names.count(name)) << name;
          read.insert(name);
        }
    for (const Weight& weight : graph.weights)
      EXPECT_TRUE(weight.role == Weight::Role::rope || read.count(weight.name)) << weight.name;
    for (const TensorRule& rule : c.arch->tensor_rules(graph.config)) {
      EXPECT_TRUE(names.erase(rule.name)) << rule.name;
      EXPECT_TRUE(hf_names.insert(rule.hf_name).second) << rule.hf_name;
    }
    names.erase("rope_freqs.weight");
    EXPECT_TRUE(names.empty()) << *names.begin();
  }
}

/// Slots are written before they are read, and have the widths that the weights say.
TEST(Arch, SlotsAreConsistent) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Graph graph = graph_of(c);
    ASSERT_EQ(graph.slot_width.size(), std::size_t(graph.slots));
    std::map<std::string, std::vector<std::uint64_t>> shapes;
    for (const Weight& weight : graph.weights) shapes[weight.name] = weight.shape;
    std::set<Slot> written;
    for (const Node* node : nodes_of(graph)) {
      for (const Slot slot : node->in) EXPECT_TRUE(written.count(slot)) << node->weight;
      written.insert(node->out);
      const auto width = [&](Slot slot) { return std::uint64_t(graph.slot_width.at(slot)); };
      using Shape = std::vector<std::uint64_t>;
      if (node->kind == Node::Kind::embed) {
        EXPECT_EQ(shapes[node->weight].at(1), width(node->out));
      } else if (node->kind == Node::Kind::linear) {
        EXPECT_EQ(shapes[node->weight], (Shape{width(node->out), width(node->in[0])}));
        EXPECT_EQ(shapes[node->bias], node->bias.empty() ? Shape{} : Shape{width(node->out)});
      } else if (node->kind == Node::Kind::norm) {
        EXPECT_EQ(shapes[node->weight], Shape{node->width});
        EXPECT_EQ(width(node->in[0]) % node->width, 0u);
        EXPECT_EQ(width(node->in[0]), width(node->out));
      } else if (node->kind == Node::Kind::attend) {
        ASSERT_EQ(node->in.size(), 3u);
        EXPECT_GE(node->layer, 0);
        EXPECT_GT(node->scale, 0);
      } else {
        for (const Slot slot : node->in) EXPECT_EQ(width(slot), width(node->out));
      }
    }
    EXPECT_EQ(graph.blocks.size(), graph.config.layers);
    EXPECT_TRUE(graph.after.end() != std::find_if(graph.after.begin(), graph.after.end(),
                                                  [](const Node& node) { return node.head; }));
  }
}

/// Linear layers share a tap exactly when they read the same activation.
TEST(Arch, TapsNameActivations) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Graph graph = graph_of(c);
    std::map<Slot, int> version;
    std::map<std::string, std::pair<Slot, int>> activation;
    std::map<std::pair<Slot, int>, std::string> tap;
    for (const Node* node : nodes_of(graph)) {
      if (node->kind == Node::Kind::linear) {
        ASSERT_FALSE(node->tap.empty()) << node->weight;
        const std::pair key(node->in[0], version[node->in[0]]);
        EXPECT_EQ(activation.emplace(node->tap, key).first->second, key) << node->tap;
        EXPECT_EQ(tap.emplace(key, node->tap).first->second, node->tap);
      }
      ++version[node->out];
    }
  }
}

TEST(Arch, FoldsReferToMatchingWeights) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Graph graph = graph_of(c);
    std::map<std::string, std::vector<std::uint64_t>> shapes;
    for (const Weight& weight : graph.weights) shapes[weight.name] = weight.shape;
    EXPECT_FALSE(graph.folds.empty());
    for (const Fold& fold : graph.folds) {
      ASSERT_TRUE(shapes.count(fold.from)) << fold.from;
      EXPECT_FALSE(fold.to.empty());
      for (const std::string& to : fold.to) {
        ASSERT_TRUE(shapes.count(to)) << to;
        EXPECT_EQ(shapes[to].at(1), shapes[fold.from].at(0)) << fold.from << " " << to;
      }
    }
  }
}

TEST(Arch, BadConfigurationsNameTheField) {
  for (const Arch* arch : arch_registry()) {
    const Json good = small_config(arch->hf_architectures()[0]);
    for (const char* field :
         {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
          "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"})
      for (const char* bad :
           {"0", "-1", "1.5", "1099511627776", "1e300", "\"4\"", "[4]", "{}", "true"}) {
        Json config = good;
        config[field] = Json::parse(bad);
        const auto parsed = arch->from_hf(config);
        ASSERT_FALSE(parsed) << field << " = " << bad;
        EXPECT_THAT(parsed.error().message(), HasSubstr(field)) << bad;
      }
    for (const char* field : {"rms_norm_eps", "rope_theta"})
      for (const char* bad : {"0", "-1", "1e300", "\"4\"", "[]"}) {
        Json config = good;
        config[field] = Json::parse(bad);
        const auto parsed = arch->from_hf(config);
        ASSERT_FALSE(parsed) << field << " = " << bad;
        EXPECT_THAT(parsed.error().message(), HasSubstr(field)) << bad;
      }
    for (const char* field : {"hidden_size", "intermediate_size", "num_hidden_layers"}) {
      Json config = good;
      config.erase(field);
      EXPECT_THAT(arch->from_hf(config).error().message(), HasSubstr(field));
    }
    const Json pairs = Json::parse(R"({
      "num_key_value_heads": 3, "head_dim": 7, "partial_rotary_factor": 0.5,
      "hidden_act": "relu",
      "rope_scaling": {"rope_type": "longrope"}, "layer_types": ["full_attention"],
      "rope_theta": "NaN"})");
    for (const auto& [field, value] : pairs.items()) {
      Json config = good;
      config[field] = value;
      if (field == "layer_types") config["use_sliding_window"] = true;
      const auto parsed = arch->from_hf(config);
      if (parsed && field == "layer_types") continue;  // llama has none
      ASSERT_FALSE(parsed) << field;
      EXPECT_THAT(parsed.error().message(),
                  HasSubstr(field == "rope_scaling" ? "rope_type" : field));
    }
    EXPECT_FALSE(arch->from_hf(Json::array()));
  }
}

TEST(Arch, BadGgufKeysAreNamed) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto model = Model::from(small_checkpoint(*c.arch, c.config));
    ASSERT_TRUE(model);
    const std::string prefix = std::string(c.arch->id()) + ".";
    const Metadata metadata = gguf_metadata(*model);
    for (const auto& [key, value] : metadata.entries()) {
      if (key.rfind(prefix, 0) != 0) continue;
      auto source = as_gguf(*model);
      source->keys.set(key, std::vector<float>{1, 2});
      const auto opened = Model::from(std::move(source));
      ASSERT_FALSE(opened) << key;
      EXPECT_THAT(opened.error().message(), HasSubstr(key));
    }
  }
}

TEST(Arch, TensorsThatDoNotFitAreNamed) {
  for (const Arch* arch : arch_registry()) {
    const Case c{arch, "", small_config(arch->hf_architectures()[0])};
    for (std::size_t i = 0; i < small_checkpoint(*c.arch, c.config)->infos.size(); ++i) {
      auto source = small_checkpoint(*c.arch, c.config);
      const std::string name = source->infos[i].name;
      source->infos[i].name = "other";
      EXPECT_THAT(Model::from(std::move(source)).error().message(),
                  HasSubstr("'" + name + "' is missing"));
      source = small_checkpoint(*c.arch, c.config);
      source->infos[i].shape.front() += 2;
      EXPECT_THAT(Model::from(std::move(source)).error().message(),
                  HasSubstr("'" + name + "' has shape"));
    }
    auto source = small_checkpoint(*c.arch, c.config);
    source->add("model.layers.0.extra.weight", {2}, {1});
    EXPECT_THAT(Model::from(std::move(source)).error().message(), HasSubstr("extra.weight"));
    source = small_checkpoint(*c.arch, c.config);
    source->add("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, {1});
    EXPECT_TRUE(Model::from(std::move(source)));
  }
}

}  // namespace
}  // namespace nibble
