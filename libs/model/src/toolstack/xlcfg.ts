// Reading settings by key, with the warnings that xl prints: a list where a value was wanted, text that is no number, += on
// a number. As libxlutil's xlu_cfg_get_*. A key that cannot be read counts as absent; that is not fatal in xl.

import { parseLong } from './long.ts';
import type { XlcfgParse, XlcfgSetting, XlcfgValue } from './xlcfg-parser.ts';

export interface LongReading {
  readonly value: number;
  /** Exact where `value` is rounded (beyond 2^53). */
  readonly decimal: string;
}

export class Xlcfg {
  readonly source: string;
  readonly warnings: string[] = [];
  readonly #settings: XlcfgParse['settings'];

  constructor(settings: XlcfgParse['settings'], source: string) {
    this.#settings = settings;
    this.source = source;
  }

  has(key: string): boolean {
    return this.#settings.has(key);
  }

  line(key: string): number | undefined {
    return this.#settings.get(key)?.line;
  }

  /** `quiet`: say nothing about a list. */
  getString(key: string, quiet = false): string | undefined {
    return this.#atom(key, quiet)?.text;
  }

  getLong(key: string, quiet = false): LongReading | undefined {
    const atom = this.#atom(key, quiet);
    if (atom === undefined) return undefined;
    const { setting, text } = atom;
    if (setting.op === '+=') {
      if (!quiet) this.warn(setting.line, `can't use += with numbers for parameter \`${key}'`);
      return undefined;
    }
    const parsed = parseLong(text, 0);
    if (parsed.outOfRange) {
      const why = 'Numerical result out of range';
      if (!quiet) this.warn(setting.line, `parameter \`${key}' could not be parsed as a number: ${why}`);
      return undefined;
    }
    if (parsed.length === 0 || parsed.length !== text.length) {
      if (!quiet) this.warn(setting.line, `parameter \`${key}' is not a valid number`);
      return undefined;
    }
    return { value: parsed.value, decimal: parsed.decimal };
  }

  getNumber(key: string, quiet = false): number | undefined {
    return this.getLong(key, quiet)?.value;
  }

  /** Booleans are numbers: 0 is false, anything else true. */
  getBool(key: string): boolean | undefined {
    const value = this.getNumber(key);
    return value === undefined ? undefined : value !== 0;
  }

  getList(key: string, quiet = false): readonly XlcfgValue[] | undefined {
    const setting = this.#settings.get(key);
    if (setting === undefined) return undefined;
    if (setting.value.kind === 'list') return setting.value.items;
    if (!quiet) this.warn(setting.line, `parameter \`${key}' is a single value but should be a list`);
    return undefined;
  }

  /** A list's strings up to the first item that is not one: xl's loops stop there. */
  getStrings(key: string): readonly { readonly text: string; readonly line: number }[] | undefined {
    const items = this.getList(key);
    if (items === undefined) return undefined;
    const strings: { text: string; line: number }[] = [];
    for (const item of items) {
      if (item.kind !== 'string') break;
      strings.push({ text: item.text, line: item.line });
    }
    return strings;
  }

  warn(line: number, message: string): void {
    this.warnings.push(`${this.source}:${line}: warning: ${message}`);
  }

  #atom(key: string, quiet: boolean): { readonly setting: XlcfgSetting; readonly text: string } | undefined {
    const setting = this.#settings.get(key);
    if (setting === undefined) return undefined;
    if (setting.value.kind === 'string') return { setting, text: setting.value.text };
    if (!quiet) this.warn(setting.line, `parameter \`${key}' is a list but should be a single value`);
    return undefined;
  }
}
