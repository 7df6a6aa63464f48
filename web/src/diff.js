/** Which words of a text another text has not. */

const WORDS = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;
const MOST = 1500; // words; the table below has the square of it

export const words = (text) => text.match(WORDS) ?? [];

/** lengths[i][j]: of the longest common subsequence of a from i on and b from j on. */
function common(a, b) {
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; --i)
    for (let j = b.length - 1; j >= 0; --j)
      lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  return lengths;
}

/** [[piece of text, whether it differs]]; neighbours are joined. */
export function differences(text, original) {
  const a = words(text).slice(0, MOST);
  const b = words(original).slice(0, MOST);
  const lengths = common(a, b);
  const out = [];
  const add = (piece, differs) => {
    if (out.length && out.at(-1)[1] === differs) out.at(-1)[0] += piece;
    else out.push([piece, differs]);
  };
  for (let i = 0, j = 0; i < a.length; ) {
    if (j < b.length && a[i] === b[j]) {
      add(a[i++], false);
      ++j;
    } else if (j >= b.length || lengths[i + 1][j] >= lengths[i][j + 1]) {
      add(a[i++], true);
    } else {
      ++j;
    }
  }
  const rest = words(text).slice(MOST).join('');
  if (rest) add(rest, false);
  return out;
}

/** "The same words as the original." */
export function inWords(text, original) {
  if (text === original) return 'Word for word the original’s answer.';
  const marked = (list) => list.filter((word) => word.trim());
  const a = marked(words(text));
  const b = marked(words(original));
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) ++same;
  if (same === 0) return 'Differs from the first word on.';
  return `The first ${same === 1 ? 'word is' : `${same} words are`} the original’s.`;
}
