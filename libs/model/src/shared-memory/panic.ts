// A host panic: the model found that the host itself is broken (lock order, watchdog, an assertion). As on Xen nothing goes
// on after it: the first panic's text is kept for all threads, and every thread that waits or asks stops with HostPanic.

const TEXT_BYTES = 4096;

export class HostPanic extends Error {
  override readonly name = 'HostPanic';
}

export class PanicCell {
  static bytes(): number {
    return 8 + TEXT_BYTES;
  }
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly text: Uint8Array<SharedArrayBuffer>;
  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer, 0, 2);
    this.text = new Uint8Array(buffer, 8, TEXT_BYTES);
  }

  /** Stops the calling thread; the first caller's text wins. */
  panic(text: string): never {
    if (Atomics.compareExchange(this.words, 0, 0, 1) === 0) {
      // 7-bit text: model messages are ASCII
      const length = Math.min(text.length, TEXT_BYTES);
      for (let i = 0; i < length; i++) this.text[i] = text.charCodeAt(i) & 0x7f;
      this.words[1] = length;
      Atomics.store(this.words, 0, 2);
    }
    throw new HostPanic(this.message() ?? text);
  }

  message(): string | null {
    if (Atomics.load(this.words, 0) !== 2) return null;
    let text = '';
    for (let i = 0; i < (this.words[1] ?? 0); i++) text += String.fromCharCode(this.text[i] ?? 0);
    return text;
  }

  /** Called by every loop that waits: nobody waits on a dead host. */
  check(): void {
    if (Atomics.load(this.words, 0) !== 0) throw new HostPanic(this.message() ?? 'host panic');
  }
}
