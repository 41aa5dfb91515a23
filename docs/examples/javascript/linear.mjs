// Linear algebra on matrices that lie row by row in Float64Arrays.

// Factors H (b x b) into K K^T with K upper triangular, from the last column to the first. Returns
// K and U, its inverse: U[J, J]^T U[J, J] is the inverse of H[J, J] for all J = [j1, b). Returns null
// if H is not positive definite.
export function factor(H, b) {
  const K = new Float64Array(b * b);
  for (let j = b - 1; j >= 0; j--)
    for (let i = j; i >= 0; i--) {
      let rest = H[i * b + j];
      for (let k = j + 1; k < b; k++) rest -= K[i * b + k] * K[j * b + k];
      if (i === j && !(rest > 0)) return null;
      K[i * b + j] = i === j ? Math.sqrt(rest) : rest / K[j * b + j];
    }
  const U = new Float64Array(b * b);
  for (let j = 0; j < b; j++)
    for (let i = j; i >= 0; i--) {
      let rest = i === j ? 1 : 0;
      for (let k = i + 1; k <= j; k++) rest -= K[i * b + k] * U[k * b + j];
      U[i * b + j] = rest / K[i * b + i];
    }
  return { K, U };
}

// The lower triangular L with A = L L^T, for A (n x n) positive definite.
export function cholesky(A, n) {
  const L = new Float64Array(n * n);
  for (let j = 0; j < n; j++)
    for (let i = j; i < n; i++) {
      let rest = A[i * n + j];
      for (let k = 0; k < j; k++) rest -= L[i * n + k] * L[j * n + k];
      L[i * n + j] = i === j ? Math.sqrt(rest) : rest / L[j * n + j];
    }
  return L;
}

// The x with L L^T x = y.
export function solve(L, y) {
  const n = y.length;
  const x = Float64Array.from(y);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= L[i * n + k] * x[k];
    x[i] /= L[i * n + i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= L[k * n + i] * x[k];
    x[i] /= L[i * n + i];
  }
  return x;
}
