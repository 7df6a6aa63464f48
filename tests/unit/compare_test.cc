// What a comparison shows and says, from made-up figures.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <regex>

#include "compare/markup.h"
#include "compare/place.h"
#include "compare/plots.h"
#include "compare/svg.h"
#include "compare/verdict.h"
#include "compare/weights.h"
#include "compare/word_diff.h"
#include "support/memory_source.h"
#include "support/temp_dir.h"

namespace nibble {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ComparedModel model(const std::string& name, std::uint64_t bytes, double kld, double rate) {
  ComparedModel out{.name = name, .path = name, .error = {}, .bytes = bytes};
  out.perplexity = Measured{10 + kld, 0.1};
  out.divergence = Divergence{};
  out.divergence->kld = {kld, kld / 100};
  out.divergence->same_top = {1 - kld, 0.001};
  out.speed = BenchmarkReport{};
  out.speed->prefill.tokens_per_second = 10 * rate;
  out.speed->decode.tokens_per_second = rate;
  out.speed->prefill.rounds = {9.9 * rate, 10 * rate, 10.1 * rate};
  out.speed->decode.rounds = {0.99 * rate, rate, 1.01 * rate};
  return out;
}

CompareReport report_of(std::vector<ComparedModel> models) {
  CompareReport report;
  report.original = model("original", 1000, 0, 5);
  report.original.divergence.reset();
  report.models = std::move(models);
  report.options.evaluate.text = "text.txt";
  report.options.targets = {"x"};
  return report;
}

/// The words that make up `kind` (and `same`), as diff_words() cut them.
std::string words(const WordDiff& diff, DiffPart::Kind kind) {
  std::string out;
  for (const DiffPart& part : diff.parts)
    if (part.kind == kind || part.kind == DiffPart::Kind::same) out += part.text;
  return out;
}

TEST(WordDiff, MarksWhatDiffers) {
  const WordDiff diff = diff_words("the cat sat on the mat", "the dog sat on a mat");
  std::vector<std::string> added, removed;
  for (const DiffPart& part : diff.parts) {
    if (part.kind == DiffPart::Kind::added) added.emplace_back(part.text);
    if (part.kind == DiffPart::Kind::removed) removed.emplace_back(part.text);
  }
  EXPECT_THAT(added, ElementsAre("dog ", "a "));
  EXPECT_THAT(removed, ElementsAre("cat ", "the "));
  EXPECT_DOUBLE_EQ(diff.kept, 4.0 / 6);
}

TEST(WordDiff, GivesBothTextsBack) {
  const std::vector<std::string> texts = {"",
                                          " ",
                                          "a",
                                          "a b",
                                          "b a",
                                          "a  b\n\nc",
                                          " a b c d ",
                                          "c b a b c",
                                          "\xe6\x97\xa5\xe6\x9c\xac x \xe6\x97\xa5",
                                          "\xff\xfe a \xe6"};
  for (const std::string& a : texts)
    for (const std::string& b : texts) {
      const WordDiff diff = diff_words(a, b);
      EXPECT_EQ(words(diff, DiffPart::Kind::added), b) << "'" << a << "' '" << b << "'";
      EXPECT_GE(diff.kept, 0);
      EXPECT_LE(diff.kept, 1);
      EXPECT_TRUE(a != b || diff.parts.size() <= 1) << a;
    }
}

TEST(WordDiff, CharactersOfScriptsWithoutSpacesAreWords) {
  const WordDiff diff =
      diff_words("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", "\xe6\x97\xa5\xe6\x9c\xac\xe4\xba\xba");
  EXPECT_DOUBLE_EQ(diff.kept, 2.0 / 3);
}

TEST(WordDiff, LongTextsEndInTime) {
  std::string a = "same start ", b = a;
  for (int i = 0; i < 20000; ++i) a += fmt::format("a{} ", i), b += "b ";
  const WordDiff diff = diff_words(a, b);
  EXPECT_EQ(words(diff, DiffPart::Kind::added), b);
  EXPECT_NEAR(diff.kept, 2.0 / 20002, 1e-9);
}

TEST(Markup, Escapes) {
  EXPECT_EQ(escape_markup("<a href='x' title=\"y\">&</a>"),
            "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;&amp;&lt;/a&gt;");
  EXPECT_EQ(escape_markup("\xc3\xa9\n\t\xe2\x82\xac"), "\xc3\xa9\n\t\xe2\x82\xac");
  const std::string lost = "\xef\xbf\xbd";
  EXPECT_EQ(escape_markup(std::string("a\0b\x1b[c\xff", 7)), "a" + lost + "b" + lost + "[c" + lost);
  EXPECT_EQ(escape_markup("\xc2\x9b"), lost);        // a control character of Latin-1
  EXPECT_EQ(escape_markup("\xc3<"), lost + "&lt;");  // a character cut short hides nothing
  EXPECT_EQ(shortened("\xc3\xa9\xc3\xa9\xc3\xa9", 2), "\xc3\xa9\xe2\x80\xa6");
  EXPECT_EQ(shortened("abc", 3), "abc");
}

TEST(Svg, Ticks) {
  EXPECT_THAT(svg::ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(svg::ticks(83, 127, 5), ElementsAre(90, 100, 110, 120));
  EXPECT_EQ(svg::log_ticks(-4.1, -0.9).size(), 4u);  // powers of ten
  const auto fine = svg::log_ticks(-2.1, -0.9);
  ASSERT_EQ(fine.size(), 4u);
  EXPECT_DOUBLE_EQ(fine[1], 0.02);
}

TEST(Svg, WordsAreEscaped) {
  EXPECT_THAT(svg::text(0, 0, "", "<x>"), HasSubstr(">&lt;x&gt;<"));
  EXPECT_THAT(svg::circle(0, 0, 1, "", "a'<b"), HasSubstr("<title>a&#39;&lt;b</title>"));
}

TEST(Place, NamesOfTargets) {
  const auto targets =
      parse_targets({"Q4_K_M", "gguf:Q8_0", "gptq:int4-g128", "../x:y/../z", "gguf:a:b"}).value();
  EXPECT_EQ(targets[0].entry, "Q4_K_M.gguf");
  EXPECT_EQ(targets[1].entry, "Q8_0.gguf");
  EXPECT_EQ(targets[1].name, "Q8_0");
  EXPECT_EQ(targets[2].entry, "gptq-int4-g128");
  EXPECT_EQ(targets[2].name, "gptq:int4-g128");
  EXPECT_FALSE(targets[2].gguf);
  EXPECT_EQ(targets[3].entry, "-.-x-y-..-z");
  EXPECT_EQ(targets[4].entry, "a-b.gguf");
  EXPECT_FALSE(parse_targets({"Q8_0", "gguf:Q8_0"}));
  EXPECT_FALSE(parse_targets({"gguf:"}));
  EXPECT_FALSE(parse_targets({""}));
}

TEST(Place, NamesOfFiles) {
  EXPECT_THAT(names_of({"a/x.gguf", "b/y.gguf/", "c/z"}), ElementsAre("x.gguf", "y.gguf", "z"));
  EXPECT_THAT(names_of({"a/x", "b/x", "y"}), ElementsAre("a/x", "b/x", "y"));
}

TEST(Place, IsGoneUnlessKept) {
  const TempDir dir;
  {
    const auto place = Place::make("", dir.path());
    ASSERT_TRUE(place);
    write_file(*place / "x", "data");
    EXPECT_EQ(dir.files(), 1u);
  }
  EXPECT_EQ(dir.files(), 0u);
  {
    const auto place = Place::make(dir / "kept", dir.path());
    ASSERT_TRUE(place);
    write_file(*place / "x", "data");
  }
  EXPECT_EQ(read_file(dir / "kept/x"), "data");
  { EXPECT_TRUE(Place::make(dir / "empty", dir.path())); }
  EXPECT_EQ(dir.files(), 1u);  // nothing came into it
  { EXPECT_TRUE(Place::make(dir / "kept", dir.path())); }
  EXPECT_EQ(read_file(dir / "kept/x"), "data");
  EXPECT_FALSE(Place::make(dir / "no/such", dir.path()));
  EXPECT_FALSE(Place::make("", dir / "none"));
}

TEST(Verdict, BeatenOnlyBeyondTheNoise) {
  auto report = report_of({model("good", 500, 0.01, 20), model("worse", 600, 0.02, 10),
                           model("near", 600, 0.01001, 19.9), model("small", 300, 0.5, 20)});
  EXPECT_EQ(beaten_by(report, report.models[0], true), nullptr);
  EXPECT_EQ(beaten_by(report, report.models[1], true), &report.models[0]);
  EXPECT_EQ(beaten_by(report, report.models[2], true), &report.models[0]);  // larger, else equal
  EXPECT_EQ(beaten_by(report, report.models[2], false), nullptr);
  EXPECT_EQ(beaten_by(report, report.models[3], true), nullptr);  // smaller
  EXPECT_EQ(beaten_by(report, report.models[3], false), &report.models[0]);
  // A busy machine: the rounds of all overlap, and what looks faster is not called beaten.
  report.models[3].speed->decode.tokens_per_second = 40;
  for (double* round :
       {&report.models[3].speed->decode.rounds[0], &report.models[0].speed->decode.rounds[0]})
    *round = 1;
  EXPECT_EQ(beaten_by(report, report.models[3], false), nullptr);
  report.models[0].error = "broken";
  EXPECT_EQ(beaten_by(report, report.models[1], true), &report.models[2]);
}

TEST(Verdict, FrontierAndBend) {
  const auto report =
      report_of({model("d", 400, 0.001, 9), model("a", 100, 1, 9), model("off", 350, 0.02, 9),
                 model("b", 200, 0.01, 9), model("c", 300, 0.005, 9)});
  const auto frontier = size_frontier(report);
  std::vector<std::string> names;
  for (const auto* each : frontier) names.push_back(each->name);
  EXPECT_THAT(names, ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(bend(frontier), 1u);
  // On a straight line and above it nothing turns.
  EXPECT_FALSE(bend(size_frontier(
      report_of({model("a", 100, 1, 9), model("b", 200, 0.5, 9), model("c", 300, 0.001, 9)}))));
  EXPECT_FALSE(bend(size_frontier(report_of({model("a", 100, 1, 9), model("b", 200, 0.5, 9)}))));
}

TEST(Advice, SaysWhatTheFiguresSay) {
  const auto report = report_of({model("big", 500, 0.001, 20), model("middle", 300, 0.004, 30),
                                 model("little", 250, 0.3, 40), model("bad", 550, 0.4, 10)});
  const auto advice = compare_advice(report);
  EXPECT_THAT(advice, Contains(AllOf(HasSubstr("Nearest to the original: big"), HasSubstr("50%"))));
  EXPECT_THAT(advice, Contains(HasSubstr("Most quality for its size: middle")));
  EXPECT_THAT(advice, Contains(AllOf(HasSubstr("Fastest here: little"), HasSubstr("40 tokens/s"))));
  EXPECT_THAT(advice, Contains(AllOf(HasSubstr("For a chat"), HasSubstr("big, middle or little"),
                                     Not(HasSubstr("bad")))));
  EXPECT_THAT(advice, Contains(AllOf(HasSubstr("bad by big"), Not(HasSubstr("little")))));
}

TEST(Advice, IsSilentAboutWhatWasNotMeasured) {
  auto report = report_of({model("a", 500, 0.001, 20), model("b", 300, 0.004, 30)});
  for (ComparedModel& each : report.models) each.divergence.reset(), each.perplexity.reset();
  report.options.evaluate.text.clear();
  const auto advice = compare_advice(report);
  EXPECT_THAT(advice, Contains(HasSubstr("Quality was not measured")));
  EXPECT_THAT(advice, Contains(HasSubstr("Fastest here: b")));
  EXPECT_EQ(advice.size(), 2u);
  EXPECT_THAT(size_plot(report), IsEmpty());
  report.models.clear();
  EXPECT_THAT(compare_advice(report), IsEmpty());
}

/// Nothing of a hostile string survives as markup, wherever it comes in.
TEST(Html, HostileTextStaysText) {
  const std::string bad = "'\"><script>alert(1)</script><img src=x onerror=alert(1)>";
  auto report = report_of({model(bad, 500, 0.001, 20), model("failed", 1, 1, 1)});
  report.models[1].error = bad;
  report.original.name = report.original.path = report.architecture = bad;
  report.options.evaluate.text = report.text_sha256 = report.options.task = bad;
  report.options.quantize.calibration = report.models[0].recipe = bad;
  report.options.prompts = {bad};
  report.original.answers = {bad + " one two"};
  report.models[0].answers = {bad + " two three"};
  report.models[0].task = report.original.task = TaskScore{};
  report.models[0].matrices = {{bad, 0, bad, 0.1}, {bad, -1, bad, 0.2}};
  const std::string html = compare_html(report);
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(1)"));
  // Attributes are in single quotes (the policy's in double ones): none of the text ends one.
  const std::regex loose("'&quot;&gt;&lt;script");
  EXPECT_FALSE(std::regex_search(html, loose));
  EXPECT_THAT(compare_markdown(report), Not(HasSubstr("\n'\"><script>")));
}

TEST(Html, LoadsNothing) {
  const std::string html = compare_html(report_of({model("a", 500, 0.001, 20)}));
  for (const char* way : {"http:", "https:", "src=", "@import", "url(", "<script", "<link rel='s"})
    EXPECT_THAT(html, Not(HasSubstr(way))) << way;
  EXPECT_THAT(html,
              AllOf(HasSubstr("default-src 'none'"), HasSubstr("<svg"), HasSubstr("</html>")));
}

TEST(Html, MarksDifferences) {
  auto report = report_of({model("a", 500, 0.001, 20)});
  report.options.prompts = {"why"};
  report.original.answers = {"one two three"};
  report.models[0].answers = {"one 2 three"};
  report.models.push_back(report.models[0]);
  report.models[1].answers = {"one three"};
  const std::string html = compare_html(report);
  EXPECT_THAT(html, HasSubstr("one <del title='the original has here: two '>\u2038</del>three"));
  EXPECT_THAT(html, HasSubstr("one <ins title='the original: two '>2 </ins>three"));
  EXPECT_THAT(html, HasSubstr("67% of the words kept"));
}

TEST(Plots, PointsLieWhereTheFiguresSay) {
  const auto report =
      report_of({model("a", 100'000'000, 0.1, 20), model("b", 200'000'000, 0.01, 20),
                 model("zero", 300'000'000, 0, 20)});
  const std::string svg = size_plot(report);
  std::vector<std::pair<double, double>> dots;
  const std::regex circle("<circle cx='([0-9.]+)' cy='([0-9.]+)'");
  for (std::sregex_iterator it(svg.begin(), svg.end(), circle), end; it != end; ++it)
    dots.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  ASSERT_EQ(dots.size(), 3u);
  EXPECT_NEAR(dots[2].first - dots[1].first, dots[1].first - dots[0].first, 0.2);
  EXPECT_GT(dots[1].second, dots[0].second + 50);  // less divergence is further down
  EXPECT_GT(dots[2].second, dots[1].second);       // and none at all at the bottom
  EXPECT_THAT(svg, AllOf(HasSubstr("(MB)"), HasSubstr("nats a token")));
}

/// A model with its weights under the original's names, changed by `change`.
Model changed(const std::function<void(MemorySource&)>& change) {
  for (const Arch* arch : arch_registry())
    if (arch->id() == "llama") {
      auto source = small_checkpoint(*arch, small_config("LlamaForCausalLM"));
      change(*source);
      return Model::from(std::move(source)).value();
    }
  std::abort();
}

void multiply(MemorySource& source, const std::string& name, std::size_t column, float by) {
  for (std::size_t i = 0; i < source.infos.size(); ++i) {
    if (source.infos[i].name != name) continue;
    auto* values = reinterpret_cast<float*>(source.bytes[i].data());
    const std::size_t columns = source.infos[i].columns();
    for (std::size_t row = 0; row < source.infos[i].rows(); ++row)
      values[row * columns + column] *= by;
  }
}

TEST(Weights, RelativeSquaredErrors) {
  ThreadPool pool(2);
  const Model original = changed([](MemorySource&) {});
  const Model other = changed([](MemorySource& source) {
    for (std::size_t column = 0; column < 32; ++column)
      multiply(source, "model.layers.1.self_attn.q_proj.weight", column, 1.1f);
  });
  const auto same = compare_weights(original, original, pool, no_progress()).value();
  EXPECT_FALSE(same.matrices.empty());
  for (const MatrixError& matrix : same.matrices) EXPECT_EQ(matrix.relative, 0) << matrix.role;
  const auto found = compare_weights(original, other, pool, no_progress()).value();
  EXPECT_FALSE(found.rescaled);
  for (const MatrixError& matrix : found.matrices) {
    const bool changed_one = matrix.layer == 1 && matrix.role == "attn_q";
    EXPECT_NEAR(matrix.relative, changed_one ? 0.01 : 0, 1e-6) << matrix.layer << matrix.role;
  }
}

TEST(Weights, ScalesThatMovedAreMovedBack) {
  ThreadPool pool(1);
  const Model original = changed([](MemorySource&) {});
  const std::string block = "model.layers.0.";
  const Model other = changed([&](MemorySource& source) {
    multiply(source, block + "input_layernorm.weight", 3, 0.25f);
    for (const char* reader : {"q", "k", "v"})
      multiply(source, block + "self_attn." + reader + "_proj.weight", 3, 4);
  });
  const auto found = compare_weights(original, other, pool, no_progress()).value();
  EXPECT_TRUE(found.rescaled);
  for (const MatrixError& matrix : found.matrices)
    EXPECT_NEAR(matrix.relative, 0, 1e-9) << matrix.layer << matrix.role;
}

}  // namespace
}  // namespace nibble
