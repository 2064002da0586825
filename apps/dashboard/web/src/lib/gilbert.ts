// A space-filling curve over any rectangle: places that follow one another on the curve are neighbours in the picture, so that
// neighbouring frames stay neighbours. A generalised Hilbert curve, after Červený's construction.

export interface Curve {
  readonly width: number;
  readonly height: number;
  /** Cell of the rectangle (y · width + x) by place on the curve. */
  readonly cellOf: Int32Array;
  /** The reverse. */
  readonly placeOf: Int32Array;
}

const sign = Math.sign;
const half = (n: number): number => Math.trunc(n / 2);

export function curveOver(width: number, height: number): Curve {
  const cellOf = new Int32Array(width * height);
  const placeOf = new Int32Array(width * height);
  let place = 0;
  const put = (x: number, y: number): void => {
    cellOf[place] = y * width + x;
    placeOf[y * width + x] = place++;
  };
  const walk = (x: number, y: number, ax: number, ay: number, bx: number, by: number): void => {
    const w = Math.abs(ax + ay);
    const h = Math.abs(bx + by);
    const dax = sign(ax);
    const day = sign(ay);
    const dbx = sign(bx);
    const dby = sign(by);
    if (h === 1) {
      for (let i = 0; i < w; i++) put(x + i * dax, y + i * day);
      return;
    }
    if (w === 1) {
      for (let i = 0; i < h; i++) put(x + i * dbx, y + i * dby);
      return;
    }
    let ax2 = half(ax);
    let ay2 = half(ay);
    let bx2 = half(bx);
    let by2 = half(by);
    const w2 = Math.abs(ax2 + ay2);
    const h2 = Math.abs(bx2 + by2);
    if (2 * w > 3 * h) {
      if (w2 % 2 !== 0 && w > 2) {
        ax2 += dax;
        ay2 += day;
      }
      walk(x, y, ax2, ay2, bx, by);
      walk(x + ax2, y + ay2, ax - ax2, ay - ay2, bx, by);
      return;
    }
    if (h2 % 2 !== 0 && h > 2) {
      bx2 += dbx;
      by2 += dby;
    }
    walk(x, y, bx2, by2, ax2, ay2);
    walk(x + bx2, y + by2, ax, ay, bx - bx2, by - by2);
    walk(x + (ax - dax) + (bx2 - dbx), y + (ay - day) + (by2 - dby), -bx2, -by2, -(ax - ax2), -(ay - ay2));
  };
  if (width >= height) walk(0, 0, width, 0, 0, height);
  else walk(0, 0, 0, height, width, 0);
  return { width, height, cellOf, placeOf };
}
