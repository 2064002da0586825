// What the steps of a step program are about, in words: the record of a schedule keeps a number for each, which follows from the words
// alone, and the words are found again by it in shared memory.
import type { PaperMemory } from './memory.ts';

/** Numbers below this are locks. */
const FIRST = 64;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** FNV-1a, in 31 bits. */
function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return ((h >>> 1) % 0x7fff0000) + FIRST;
}

export class Texts {
  private readonly memory: PaperMemory;
  private readonly known = new Map<string, number>();

  constructor(memory: PaperMemory) {
    this.memory = memory;
  }

  /** Only whoever has the baton adds words. */
  numberOf(text: string): number {
    const found = this.known.get(text);
    if (found !== undefined) return found;
    const number = hashOf(text);
    this.known.set(text, number);
    if (this.textOf(number) === null) this.add(number, text);
    return number;
  }

  /** As a word keeps it; 0 for no text. */
  wordOf(text: string): number {
    return text === '' ? 0 : this.numberOf(text);
  }

  private add(number: number, text: string): void {
    const { texts, textBytes } = this.memory;
    const bytes = encoder.encode(text.slice(0, 200));
    const at = textBytes[0] as number;
    if (at + 10 + bytes.length > texts.length) return; // told by its number then
    const view = new DataView(texts.buffer, texts.byteOffset);
    view.setFloat64(at, number);
    view.setUint16(at + 8, bytes.length);
    texts.set(bytes, at + 10);
    textBytes[0] = at + 10 + bytes.length;
  }

  textOf(number: number): string | null {
    const { texts, textBytes } = this.memory;
    const view = new DataView(texts.buffer, texts.byteOffset);
    for (let at = 0; at < (textBytes[0] as number); ) {
      const length = view.getUint16(at + 8);
      if (view.getFloat64(at) === number) return decoder.decode(texts.slice(at + 10, at + 10 + length));
      at += 10 + length;
    }
    return null;
  }
}
