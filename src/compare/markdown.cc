// The report for terminals and for pasting: aligned tables, advice, answers.
#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "compare/table.h"
#include "nibble/compare.h"

namespace nibble {
namespace {

using Lines = std::vector<std::vector<std::string>>;

/// Text from outside in a line: no control characters, and nothing that Markdown understands.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (std::string_view("\\`*<>[]|&").find(c) != std::string_view::npos) out += '\\';
    out += byte < 32 || byte == 127 ? ' ' : c;
  }
  return is_utf8(out) ? out : quote(out);
}

std::size_t letters(const std::string& text) {
  return std::size_t(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

/// The first line is the head, the first column to the left.
std::string table(const Lines& lines) {
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], letters(line[c]));
  std::string out;
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) {
      const std::string space(widths[c] - letters(line[c]), ' ');
      out += fmt::format("| {}{} ", c == 0 ? line[c] : space, c == 0 ? space : line[c]);
    }
    out += "|\n";
    if (&line != &lines.front()) continue;
    for (std::size_t c = 0; c < line.size(); ++c)
      out += fmt::format("|{}{:->{}}", c == 0 ? ":" : "", c == 0 ? "-" : ":",
                         widths[c] + (c == 0 ? 1 : 2));
    out += "|\n";
  }
  return out;
}

std::vector<std::string> head(const std::vector<Column>& columns) {
  std::vector<std::string> out = {"model"};
  for (const Column& column : columns)
    out.push_back(*column.unit ? fmt::format("{} ({})", column.head, column.unit) : column.head);
  return out;
}

std::vector<std::string> line(const std::vector<Column>& columns, const CompareReport& report,
                              const ComparedModel& model) {
  std::vector<std::string> out = {plain(model.name)};
  for (const Column& column : columns) {
    const std::string text = cell(column, report, model);
    out.push_back(is_best(column, report, model) ? "**" + text + "**" : text);
  }
  return out;
}

std::string figures(const CompareReport& report) {
  const auto columns = all_columns(report);
  Lines lines = {head(columns), line(columns, report, report.original)};
  std::string errors;
  for (const ComparedModel& model : report.models) {
    lines.push_back(line(columns, report, model));
    if (!model.error.empty())
      errors += fmt::format("- {}: {}\n", plain(model.name), plain(model.error));
  }
  return table(lines) + (errors.empty() ? "" : "\nNot measured:\n\n" + errors);
}

std::string chat(const CompareReport& report) {
  const auto order = by_reply_time(report);
  if (order.empty()) return "";
  const auto columns = chat_columns(report);
  Lines lines = {head(columns)};
  lines.front().push_back("verdict");
  for (const ComparedModel* model : order) {
    lines.push_back(line(columns, report, *model));
    lines.back().push_back(plain(chat_verdict(report, *model)));
  }
  return "\n## For a chat\n\n" + table(lines);
}

/// As a block of code, which four spaces make whatever it says.
std::string indented(std::string_view text) {
  std::string out = "    ";
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    out += (byte < 32 && c != '\n' && c != '\t') || byte == 127 ? ' ' : c;
    if (c == '\n') out += "    ";
  }
  return out + "\n";
}

std::string answers(const CompareReport& report) {
  std::string out;
  for (std::size_t i = 0; i < report.options.prompts.size(); ++i) {
    out += "\n## Prompt\n\n" + indented(report.options.prompts[i]);
    const auto add = [&](const ComparedModel& model) {
      if (i < model.answers.size())
        out += fmt::format("\n{}:\n\n{}", plain(model.name), indented(model.answers[i]));
    };
    add(report.original);
    for (const ComparedModel& model : report.models) add(model);
  }
  return out;
}

}  // namespace

std::string compare_markdown(const CompareReport& report) {
  std::string out = figures(report);
  for (const std::string& sentence : compare_advice(report))
    out += fmt::format("\n{}\n", plain(sentence));
  return out + chat(report) + answers(report);
}

}  // namespace nibble
