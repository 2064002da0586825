// A canvas that fills its box, sharp on every screen: tells its size in CSS pixels and draws again when the box changes.

export interface Sized {
  readonly width: number;
  readonly height: number;
}

/** A Svelte action. */
export function fill(canvas: HTMLCanvasElement, onSize: (size: Sized) => void): { destroy: () => void } {
  const parent = canvas.parentElement;
  const measure = (): void => {
    const { width, height } = (parent ?? canvas).getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    onSize({ width, height });
  };
  const observer = new ResizeObserver(measure);
  observer.observe(parent ?? canvas);
  measure();
  return { destroy: () => observer.disconnect() };
}

/** Its context, scaled so that one unit is one CSS pixel. */
export function pen(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext('2d');
  if (!context) throw new Error('this browser draws no canvas');
  const scale = window.devicePixelRatio || 1;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}
