/**
 * Markdown as elements. Text from a model only ever becomes text nodes and the few elements below, so nothing that it
 * writes can run or load anything.
 */
import { useMemo } from 'preact/hooks';
import { CopyButton } from './parts.jsx';

const DEPTH = 6; // of quotes and lists within one another

// Lengths are bounded, so that a line full of marks costs no quadratic time.
const INLINE = new RegExp(
  [
    '\\\\([\\\\`*_{}\\[\\]()#+.!|~<>-])', // 1: an escaped mark
    '(?<!`)(`{1,4})(?!`)(.{1,2000}?)(?<!`)\\2(?!`)', // 2, 3: code
    '\\*\\*(?=\\S)(.{1,1000}?\\S|\\S)\\*\\*(?!\\*)', // 4: strong
    '\\*(?=[^\\s*])(.{0,1000}?[^\\s*])\\*(?!\\*)', // 5: emphasis
    '(?<!\\w)__(?=\\S)(.{0,1000}?\\S)__(?!\\w)', // 6: strong
    '(?<!\\w)_(?=[^\\s_])(.{0,1000}?[^\\s_])_(?!\\w)', // 7: emphasis
    '~~(?=\\S)(.{1,1000}?)~~', // 8: struck out
    '!?\\[([^\\]\\n]{0,500})\\]\\(([^()\\s]{1,1000}(?:\\([^()\\s]{0,200}\\)[^()\\s]{0,200})?)(?:\\s+"[^"]{0,200}")?\\)', // 9, 10: link
    '(https?:\\/\\/[^\\s<>()"\']{1,1000}[^\\s<>()"\'.,;:!?])', // 11: a bare address
  ].join('|'),
  's',
);

function link(address, content) {
  if (!/^(https?:|mailto:)/i.test(address)) return content;
  return (
    <a href={address} target="_blank" rel="noopener noreferrer nofollow">
      {content}
    </a>
  );
}

function inline(text, depth = 0) {
  const out = [];
  while (text) {
    const found = depth < DEPTH && INLINE.exec(text);
    if (!found) {
      out.push(text);
      break;
    }
    if (found.index > 0) out.push(text.slice(0, found.index));
    const inner = (s) => inline(s, depth + 1);
    if (found[1]) out.push(found[1]);
    else if (found[2]) out.push(<code>{found[3].trim() || found[3]}</code>);
    else if (found[4] ?? found[6]) out.push(<strong>{inner(found[4] ?? found[6])}</strong>);
    else if (found[5] ?? found[7]) out.push(<em>{inner(found[5] ?? found[7])}</em>);
    else if (found[8]) out.push(<s>{inner(found[8])}</s>);
    else if (found[10]) out.push(link(found[10], found[9] || found[10]));
    else out.push(link(found[11], found[11]));
    text = text.slice(found.index + found[0].length);
  }
  return out;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const TABLE_LINE = /^\s*\|?(?:\s*:?-+:?\s*\|)+\s*:?-*:?\s*\|?\s*$/;

const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line) || QUOTE.test(line);

const cells = (line) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim());

function Code({ text, language }) {
  return (
    <figure class="code">
      <figcaption>
        <span>{language || 'code'}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

/** Each reader takes lines from `at` and gives [element, the line behind it]. */
function readFence(lines, at) {
  const [, mark, language] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !lines[end].trim().startsWith(mark)) ++end;
  return [<Code text={lines.slice(at + 1, end).join('\n')} language={language} />, end + 1];
}

function readQuote(lines, at, depth) {
  const inside = [];
  for (; at < lines.length && QUOTE.test(lines[at]); ++at) inside.push(QUOTE.exec(lines[at])[1]);
  return [<blockquote>{blocks(inside, depth + 1)}</blockquote>, at];
}

function readTable(lines, at) {
  const head = cells(lines[at]);
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && lines[end].includes('|'); ++end) rows.push(cells(lines[end]));
  const table = (
    <div class="scroll" tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead>
          <tr>{head.map((cell) => <th scope="col">{inline(cell)}</th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row) => <tr>{head.map((_, i) => <td>{inline(row[i] ?? '')}</td>)}</tr>)}
        </tbody>
      </table>
    </div>
  );
  return [table, end];
}

function readList(lines, at, depth) {
  const [, indent, marker] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(marker);
  const items = [];
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (!item || item[1].length > indent.length + 1 || /\d/.test(item[2]) !== ordered || RULE.test(lines[at])) break;
    const inside = [item[4]];
    const own = item[1].length + item[2].length + 1;
    for (++at; at < lines.length; ++at) {
      const line = lines[at];
      const deeper = /^\s*/.exec(line)[0].length >= Math.min(own, indent.length + 2);
      const goesOn = line.trim() ? deeper || (!begins(line) && lines[at - 1].trim()) : /^\s{2,}\S/.test(lines[at + 1] ?? '');
      if (!goesOn) break;
      inside.push(deeper ? line.slice(Math.min(own, /^\s*/.exec(line)[0].length)) : line.trim());
    }
    const body = inside.some((line) => !line.trim() || begins(line)) ? blocks(inside, depth + 1) : inline(inside.join('\n'));
    items.push(<li>{body}</li>);
    while (at < lines.length && !lines[at].trim() && ITEM.test(lines[at + 1] ?? '')) ++at;
  }
  return [ordered ? <ol start={parseInt(marker, 10)}>{items}</ol> : <ul>{items}</ul>, at];
}

function readParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !begins(lines[end])) ++end;
  return [<p>{inline(lines.slice(at, end).join('\n'))}</p>, end];
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  if (depth >= DEPTH) return [<p>{lines.slice(at).join('\n')}</p>, lines.length];
  if (FENCE.test(line)) return readFence(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [<h3 class={`level-${heading[1].length}`}>{inline(heading[2])}</h3>, at + 1];
  if (RULE.test(line)) return [<hr />, at + 1];
  if (QUOTE.test(line)) return readQuote(lines, at, depth);
  if (ITEM.test(line)) return readList(lines, at, depth);
  if (line.includes('|') && TABLE_LINE.test(lines[at + 1] ?? '')) return readTable(lines, at);
  return readParagraph(lines, at);
}

function blocks(lines, depth = 0) {
  const out = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      ++at;
      continue;
    }
    const [element, next] = readBlock(lines, at, depth);
    out.push(element);
    at = next;
  }
  return out;
}

function render(text) {
  const thought = /^\s*<think>([\s\S]*?)(?:<\/think>|$)/.exec(text);
  const rest = thought ? text.slice(thought[0].length) : text;
  return (
    <div class="markdown">
      {thought?.[1].trim() && (
        <details class="thought">
          <summary>Thoughts</summary>
          {blocks(thought[1].split('\n'))}
        </details>
      )}
      {blocks(rest.split('\n'))}
    </div>
  );
}

export const Markdown = ({ text }) => useMemo(() => render(text), [text]);
