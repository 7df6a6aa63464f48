/** Numbers as people read them. */

/** "1.50 GB" */
export function bytes(n) {
  if (!Number.isFinite(n)) return '–';
  for (const [unit, size, digits] of [['GB', 1e9, 2], ['MB', 1e6, 0], ['kB', 1e3, 0]])
    if (n >= size) return `${(n / size).toFixed(digits)} ${unit}`;
  return `${n} B`;
}

/** Three significant digits. */
export function number(n) {
  if (!Number.isFinite(n)) return '–';
  if (n === 0) return '0';
  const digits = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(n)))));
  return n.toFixed(digits);
}

export function seconds(n) {
  if (!Number.isFinite(n)) return '–';
  if (n < 0.95) return `${Math.round(n * 1000)} ms`;
  return n < 60 ? `${n.toFixed(1)} s` : `${Math.floor(n / 60)} min ${Math.round(n % 60)} s`;
}

export function percent(share) {
  if (!Number.isFinite(share)) return '–';
  const value = share * 100;
  return `${value >= 10 || value === 0 ? value.toFixed(value > 99 && value < 100 ? 1 : 0) : value.toPrecision(2)}\u00a0%`;
}
