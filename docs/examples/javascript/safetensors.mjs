// Reads and writes safetensors files, docs/vectors.md: "An input file", "An output file".

// Bytes of one number. Types without a `decode` below are known, so that they can be refused by name.
const SIZES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 };

// The 16-bit types: bits of the fraction, and the bias of the exponent.
const SHORT = { F16: [10, 15], BF16: [7, 127] };

export const isFloating = (type) => type === "F64" || type === "F32" || type in SHORT;

// Returns { metadata, tensors }, where tensors[name] is { type, shape, values }, and values is a
// Float64Array, row by row, or null if the numbers are no floating-point numbers.
export function parse(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8) throw new Error(`a file of ${bytes.length} bytes is no safetensors file`);
  const length = view.getBigUint64(0, true);
  if (length > bytes.length - 8) throw new Error(`a header of ${length} bytes in a smaller file`);
  const start = 8 + Number(length);
  const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, start)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    const count = shape.reduce((product, size) => product * size, 1);
    if (!(dtype in SIZES)) throw new Error(`tensor ${name} has the unknown type ${dtype}`);
    if (to - from !== count * SIZES[dtype] || from < 0 || start + to > bytes.length)
      throw new Error(`tensor ${name} has the data_offsets ${from}, ${to}`);
    tensors[name] = { type: dtype, shape, values: decoded(view, start + from, count, dtype) };
  }
  return { metadata, tensors };
}

function decoded(view, start, count, type) {
  if (!isFloating(type)) return null;
  return Float64Array.from({ length: count }, (_, k) => {
    const place = start + k * SIZES[type];
    if (type === "F64") return view.getFloat64(place, true);
    if (type === "F32") return view.getFloat32(place, true);
    return fromShort(view.getUint16(place, true), ...SHORT[type]);
  });
}

// The content of a file. tensors[name] is { type, shape, values }.
export function encode(tensors) {
  const header = {};
  let end = 0;
  for (const [name, { type, shape, values }] of Object.entries(tensors)) {
    header[name] = { dtype: type, shape, data_offsets: [end, end + values.length * SIZES[type]] };
    end += values.length * SIZES[type];
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8); // the numbers begin at a multiple of 8
  const start = 8 + text.length;
  const bytes = new Uint8Array(start + end);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(text.length), true);
  bytes.set(new TextEncoder().encode(text), 8);
  for (const [name, { type, values }] of Object.entries(tensors)) {
    let place = start + header[name].data_offsets[0];
    for (const value of values) {
      if (type === "F64") view.setFloat64(place, value, true);
      else if (type === "F32") view.setFloat32(place, value, true);
      else if (type in SHORT) view.setUint16(place, toShort(value, ...SHORT[type]), true);
      else view.setUint8(place, value);
      place += SIZES[type];
    }
  }
  return bytes;
}

function fromShort(bits, fraction, bias) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> fraction;
  const digits = bits & (2 ** fraction - 1);
  if (exponent === 2 * bias + 1) return digits ? NaN : sign * Infinity;
  if (exponent === 0) return sign * digits * 2 ** (1 - bias - fraction);
  return sign * (digits + 2 ** fraction) * 2 ** (exponent - bias - fraction);
}

// The bits of the number of the short type that is nearest to a double, ties to even. The double is
// rounded once: by way of float32 it would be rounded twice.
function toShort(value, fraction, bias) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  const exponent = size >= 2 ** (1 - bias) ? exponentOf(size) : 1 - bias;
  const digits = roundedToEven(size / 2 ** (exponent - fraction));
  // `digits` holds the leading 1 of a normal number, which adds 1 to the exponent's field, and so
  // does a carry of the rounding.
  const bits = (exponent + bias - 1) * 2 ** fraction + digits;
  return sign | Math.min(bits, (2 * bias + 1) * 2 ** fraction); // infinity, if it is too large
}

function roundedToEven(x) {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

// The e with 2^e <= x < 2^(e + 1), for x > 0.
export function exponentOf(x) {
  let e = Math.max(-1074, Math.min(1023, Math.floor(Math.log2(x)))); // may be off by one
  while (2 ** e > x) e -= 1;
  while (e < 1023 && 2 ** (e + 1) <= x) e += 1;
  return e;
}
