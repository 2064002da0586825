// Reading single settings of an xl.cfg: their values with xl's own refusals, each with its line, all collected. Owns how a
// mistake is recorded; which settings there are is guest-config.ts and platform-config.ts.
import { KIB } from './e820.ts';
import type { Xlcfg } from './xlcfg.ts';

export interface GuestConfigError {
  readonly line?: number;
  /** As xl prints it. */
  readonly message: string;
  readonly remedy?: string;
}

/** libxl's enumerations are read in any case. */
export function oneOf<T extends string>(words: readonly T[], text: string): T | undefined {
  const lower = text.toLowerCase();
  return words.find((word) => word === lower);
}

/** xl compares with the *value's* length: any prefix of the word is the word. */
export const isPrefixOf = (word: string, text: string): boolean => word.startsWith(text);

/** Reads one file; every problem is collected, xl would stop at the first. */
export class GuestConfigReader {
  readonly cfg: Xlcfg;
  readonly errors: GuestConfigError[] = [];

  constructor(cfg: Xlcfg) {
    this.cfg = cfg;
  }

  fail(key: string, message: string, remedy?: string): void {
    const line = this.cfg.line(key);
    this.errors.push({ ...(line === undefined ? {} : { line }), message, ...(remedy === undefined ? {} : { remedy }) });
  }

  /** A size in MiB, as KiB. xl would take a negative one as an enormous unsigned number; here it is refused. */
  sizeMemkb(key: string): number | null {
    const mib = this.cfg.getNumber(key);
    if (mib === undefined) return null;
    if (mib >= 0 && mib <= 2 ** 32) return mib * KIB;
    this.fail(key, `ERROR: invalid value ${mib} for "${key}"`, 'give a size in MiB, such as 4096');
    return null;
  }

  /** A key that must be one of libxl's words; null if absent or wrong. */
  word<T extends string>(key: string, words: readonly T[], message: (text: string) => string): T | null {
    const text = this.cfg.getString(key);
    if (text === undefined) return null;
    const word = oneOf(words, text);
    if (word === undefined) this.fail(key, message(text), `use one of ${words.join(', ')}`);
    return word ?? null;
  }
}
