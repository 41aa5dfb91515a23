// Patterns and their exact counts, docs/specification.md, section 2.

// An input that must be refused; the message names the argument and its value.
export class Refusal extends Error {}

const FORMS = [
  [/^unstructured:(?<p>[^:]+)$/, "unstructured"],
  [/^(?<n>[0-9]{1,9}):(?<m>[0-9]{1,9})(\+outliers:(?<a>[^:]+))?$/, "n:m"],
  [/^structured:(?<p>[^:]+?)(\+outliers:(?<a>[^:]+))?$/, "structured"],
];

// Returns { kind, n, m, p, a }; p and a are decimals as fractions of whole numbers (BigInt). The text
// of a decimal is kept for messages. Checks rows 1 to 5 of the table of refusals.
export function parsePattern(text) {
  const [form, kind] = FORMS.find(([each]) => each.test(text)) ?? [];
  if (!form) throw new Refusal(`pattern must be unstructured:P, N:M or structured:P, got ${text}`);
  const { n, m, p, a } = form.exec(text).groups;
  const pattern = { kind, n: Number(n), m: Number(m) };
  if (kind === "n:m" && pattern.m < 1) throw new Refusal(`m must be at least 1, got ${m}`);
  if (kind === "n:m" && pattern.n > pattern.m)
    throw new Refusal(`n must be at most m = ${m}, got ${n}`);
  if (kind !== "n:m") pattern.p = share("sparsity", p);
  pattern.a = share("outlier_rows", a ?? "0");
  return pattern;
}

// A decimal in [0, 1) as { top, bottom, text }, exactly.
function share(name, text) {
  const found = /^([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]{1,4}))?$/.exec(text);
  if (!found || !(found[2] || found[3]))
    throw new Refusal(`${name} must be a decimal in [0, 1), got ${text}`);
  const [, sign, whole, fraction, exponent = "0"] = found;
  const power = BigInt(exponent) - BigInt(fraction.length);
  const digits = BigInt(`${whole}${fraction}`) * (sign === "-" ? -1n : 1n);
  const top = power > 0n ? digits * 10n ** power : digits;
  const bottom = power < 0n ? 10n ** -power : 1n;
  if (top < 0n || top >= bottom) throw new Refusal(`${name} must be in [0, 1), got ${text}`);
  return { top, bottom, text };
}

// floor(share * count)
export const floorOf = ({ top, bottom }, count) => Number((top * BigInt(count)) / bottom);

// ceil(share * count)
export const ceilOf = ({ top, bottom }, count) =>
  Number((top * BigInt(count) + bottom - 1n) / bottom);

// The columns that structured pruning removes: ceil(p b / (1 - a)); baselines have a = 0.
export function columnsRemoved({ p, a }, b) {
  const top = p.top * BigInt(b) * a.bottom;
  const bottom = p.bottom * (a.bottom - a.top);
  return Number((top + bottom - 1n) / bottom);
}
