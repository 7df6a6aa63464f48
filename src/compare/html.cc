// The report as one page. Whatever comes from a file, a user or a model goes through
// escape_markup().
#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"
#include "compare/markup.h"
#include "compare/plots.h"
#include "compare/style.h"
#include "compare/table.h"
#include "compare/verdict.h"
#include "compare/word_diff.h"
#include "nibble/version.h"

namespace nibble {
namespace {

std::string paragraph(std::string_view css_class, std::string_view words) {
  return fmt::format("<p class='{}'>{}</p>\n", css_class, escape_markup(words));
}

std::string head_of(const CompareReport& report) {
  const std::string name = escape_markup(report.original.name);
  // The policy is a second lock: even markup that slipped through could load and run nothing.
  return fmt::format(
      "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
      "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
      "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src "
      "'unsafe-inline'; img-src data:\">\n"
      "<link rel='icon' href='data:,'>\n<title>{} quantized: a comparison</title>\n"
      "<style>{}</style>\n</head>\n<body>\n<main>\n<h1>{}, quantized</h1>\n",
      name, kStyle, name);
}

std::string summary(const CompareReport& report) {
  const BenchmarkReport& speed = *report.original.speed;
  return paragraph(
      "lead", fmt::format("{} models beside the original: {}, {:.1f} million parameters, {}. "
                          "Every figure was measured on the files themselves, with {} thread{} "
                          "of this machine ({}).",
                          report.models.size(), report.architecture,
                          double(report.parameters) / 1e6, human_bytes(report.original.bytes),
                          speed.threads, speed.threads == 1 ? "" : "s", speed.isa));
}

/// What stands before the colon is what a sentence is about.
std::string advice_box(const CompareReport& report) {
  std::string out = "<section class='advice' aria-label='What the figures say'>\n";
  for (const std::string& sentence : compare_advice(report)) {
    const std::size_t colon = sentence.find(':');
    const std::size_t topic = colon == std::string::npos ? 0 : colon + 1;
    out += fmt::format("<p><strong>{}</strong>{}</p>\n", escape_markup(sentence.substr(0, topic)),
                       escape_markup(sentence.substr(topic)));
  }
  return out + "</section>\n";
}

/// The error of a mean, and what stands in brackets, are small print.
std::string value_markup(const std::string& text) {
  const std::size_t large = std::min(text.find(" \u00b1"), text.find(" ("));
  if (large == std::string::npos) return escape_markup(text);
  return escape_markup(text.substr(0, large)) + "<small>" + escape_markup(text.substr(large)) +
         "</small>";
}

std::string table_head(const std::vector<Column>& columns, std::string_view last) {
  std::string out = "<div class='wide'><table>\n<thead><tr><th scope='col'>model</th>";
  for (const Column& column : columns)
    out += fmt::format("<th scope='col'>{}<small>{}</small></th>", column.head, column.unit);
  if (!last.empty()) out += fmt::format("<th scope='col' class='left'>{}</th>", last);
  return out + "</tr></thead>\n<tbody>\n";
}

std::string table_row(const std::vector<Column>& columns, const CompareReport& report,
                      const ComparedModel& model, std::string_view last) {
  const bool original = &model == &report.original;
  const std::string name = escape_markup(model.name);
  std::string out =
      fmt::format("<tr{}><th scope='row' title='{}'>{}{}</th>", original ? " class='original'" : "",
                  name, name, original ? " <small>(original)</small>" : "");
  if (!model.error.empty())
    return out + fmt::format("<td class='error' colspan='{}'>{}</td></tr>\n", columns.size(),
                             escape_markup(model.error));
  for (const Column& column : columns)
    out += fmt::format("<td{}>{}</td>", is_best(column, report, model) ? " class='best'" : "",
                       value_markup(cell(column, report, model)));
  if (!last.empty()) out += "<td class='left'>" + escape_markup(last) + "</td>";
  return out + "</tr>\n";
}

std::string tables(const CompareReport& report) {
  const auto columns = all_columns(report), chat = chat_columns(report);
  std::string out = "<h2>The figures</h2>\n" + table_head(columns, "");
  out += table_row(columns, report, report.original, "");
  for (const ComparedModel& model : report.models) out += table_row(columns, report, model, "");
  out += "</tbody></table></div>\n";
  const auto order = by_reply_time(report);
  if (order.empty()) return out;
  const BenchmarkOptions& speed = report.options.speed;
  out += "<h2>Which one for a chat?</h2>\n";
  out += paragraph(
      "note", fmt::format("By the time that a loaded model takes for a reply of {} tokens to a "
                          "prompt of {}, and by how near it stays to the original. A model is "
                          "beaten where another is clearly faster or clearly nearer, and not "
                          "clearly worse in the other.",
                          speed.generated_tokens, speed.prompt_tokens));
  out += table_head(chat, "verdict");
  for (const ComparedModel* model : order)
    out += table_row(chat, report, *model, chat_verdict(report, *model));
  return out + "</tbody></table></div>\n";
}

std::string size_section(const CompareReport& report) {
  const std::string plot = size_plot(report);
  if (plot.empty()) return "";
  return "<h2>Size against quality</h2>\n<figure><div class='plot'>" + plot +
         "</div><figcaption>Lower and further left is better. Full dots lie on the line beyond "
         "which "
         "nothing is both smaller and nearer to the original; hollow ones do not. Thin lines: two "
         "standard errors. " +
         fmt::format("The original has {}.", human_bytes(report.original.bytes)) +
         "</figcaption></figure>\n";
}

Bars::Value rounds(double typical, const std::vector<double>& all) {
  Bars::Value out{typical, typical, typical};
  for (const double x : all) out.least = std::min(out.least, x), out.most = std::max(out.most, x);
  return out;
}

constexpr Bars kBars[] = {
    {"Generation", "tokens/s", true,
     [](const CompareReport&, const ComparedModel& m) {
       return rounds(m.speed->decode.tokens_per_second, m.speed->decode.rounds);
     }},
    {"Reading the prompt", "tokens/s", true,
     [](const CompareReport&, const ComparedModel& m) {
       return rounds(m.speed->prefill.tokens_per_second, m.speed->prefill.rounds);
     }},
    {"First token", "seconds", false, [](const CompareReport& r, const ComparedModel& m) {
       std::vector<double> seconds;
       for (const double rate : m.speed->prefill.rounds)
         seconds.push_back(r.options.speed.prompt_tokens / rate);
       return rounds(first_token(r, m), seconds);
     }}};

std::string speed_section(const CompareReport& report) {
  std::string out = "<h2>Speed on this machine</h2>\n<div class='grid'>\n";
  for (const Bars& bars : kBars)
    out += fmt::format(
        "<figure><h3>{} <small class='note'>{}, {} is better</small></h3>{}</figure>\n", bars.title,
        bars.unit, bars.more_is_better ? "more" : "less", bar_plot(report, bars));
  const BenchmarkOptions& speed = report.options.speed;
  return out + "</div>\n" +
         paragraph("note",
                   fmt::format("Medians of {} rounds, thin lines from the slowest to the fastest: "
                               "{} tokens generated, a prompt of {} tokens. Long lines mean that "
                               "the machine was busy with other things.",
                               speed.rounds, speed.generated_tokens, speed.prompt_tokens));
}

std::string error_section(const CompareReport& report) {
  std::string maps;
  bool rescaled = false;
  for (const ComparedModel& model : report.models) {
    const std::string map = error_map(report, model);
    if (map.empty()) continue;
    rescaled = rescaled || model.rescaled;
    maps += fmt::format("<figure><h3>{}{}</h3>{}</figure>\n", escape_markup(model.name),
                        model.rescaled ? " *" : "", map);
  }
  if (maps.empty()) return "";
  return "<h2>Where the error is</h2>\n" +
         paragraph("note",
                   "How far the decoded weights of each matrix lie from the original's: sum of "
                   "squared differences over sum of squares, by layer. It says nothing of how much "
                   "a matrix matters; methods that look at the inputs accept larger errors where "
                   "they do no harm.") +
         "<figure>" + error_legend(report) + "</figure>\n<div class='grid maps'>\n" + maps +
         "</div>\n" +
         (rescaled ? paragraph("note",
                               "* Scales that were moved from one matrix into another before "
                               "rounding (as AWQ does) are moved back for this picture.")
                   : "");
}

/// What stands instead of the original's words is marked, with these to be seen where the pointer
/// rests; a caret is where words are only missing.
std::string diff_markup(const WordDiff& diff) {
  std::string out, added, removed;
  const auto flush = [&] {
    if (!added.empty())
      out += fmt::format("<ins{}>{}</ins>",
                         removed.empty() ? "" : " title='the original: " + removed + "'", added);
    else if (!removed.empty())
      out += fmt::format("<del title='the original has here: {}'>\u2038</del>", removed);
    added.clear(), removed.clear();
  };
  for (const DiffPart& part : diff.parts) {
    const std::string words = escape_markup(part.text);
    if (part.kind == DiffPart::Kind::same) flush();
    (part.kind == DiffPart::Kind::same    ? out
     : part.kind == DiffPart::Kind::added ? added
                                          : removed) += words;
  }
  flush();
  return out;
}

std::string answer_card(const CompareReport& report, const ComparedModel& model,
                        std::size_t index) {
  if (index >= model.answers.size()) return "";
  const bool original = &model == &report.original;
  const std::string& text = model.answers[index];
  std::string body = escape_markup(text), remark = "original";
  if (!original) {
    const WordDiff diff = diff_words(report.original.answers[index], text);
    body = diff_markup(diff);
    remark = text == report.original.answers[index]
                 ? "the same"
                 : fmt::format("{:.0f}% of the words kept", 100 * diff.kept);
  }
  return fmt::format(
      "<article class='card{}'><h3><span>{}</span><small>{}</small></h3><div class='answer' "
      "dir='auto'>{}</div></article>\n",
      original ? " original" : "", escape_markup(model.name), remark, body);
}

std::string answer_section(const CompareReport& report) {
  const auto& prompts = report.options.prompts;
  if (prompts.empty()) return "";
  std::string out =
      "<h2>Answers</h2>\n" +
      paragraph("note", fmt::format("Greedy, {} tokens at most. Words that the original's answer "
                                    "does not have there are marked; \u2038 stands where words of "
                                    "it are missing.",
                                    report.options.answer_tokens));
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    out += "<div class='prompt' dir='auto'>" + escape_markup(prompts[i]) +
           "</div>\n<div class='answers'>\n" + answer_card(report, report.original, i);
    for (const ComparedModel& model : report.models) out += answer_card(report, model, i);
    out += "</div>\n";
  }
  return out;
}

std::string fact(std::string_view what, std::string_view value) {
  return fmt::format("<dt>{}</dt><dd>{}</dd>\n", what, escape_markup(value));
}

std::string method_section(const CompareReport& report) {
  std::string out = "<h2>How it was measured</h2>\n<dl>\n";
  out += fact("original", report.original.path);
  if (!report.text_sha256.empty()) {
    out += fact("text",
                fmt::format("{}, {} windows of {} tokens, {} tokens scored, float32 activations",
                            report.options.evaluate.text, report.windows,
                            report.options.evaluate.context, report.tokens));
    out += fact("SHA-256 of the text", report.text_sha256);
    out += fact("KL divergence",
                "of the model's predictions from the original's, mean over the scored tokens, with "
                "its standard error; 0: the same predictions");
    out += fact("same top token", "how often both find the same token most probable");
  }
  out += fact("with loading", "from the start of the program's work to the first token");
  if (!report.options.task.empty()) out += fact("your questions", report.options.task);
  for (const ComparedModel& model : report.models)
    if (!model.recipe.empty()) out += fact("recipe", model.recipe);
  if (!report.options.targets.empty() && !report.options.quantize.calibration.empty())
    out += fact("calibration", report.options.quantize.calibration);
  return out + fact("made by", fmt::format("nibble {}", version())) + "</dl>\n";
}

}  // namespace

std::string compare_html(const CompareReport& report) {
  return head_of(report) + summary(report) + advice_box(report) + tables(report) +
         size_section(report) + speed_section(report) + answer_section(report) +
         error_section(report) + method_section(report) + "</main>\n</body>\n</html>\n";
}

}  // namespace nibble
