// The guest's PCI bus 0 as firmware finds it: functions with their base address registers, and what software reads back
// after writing all ones. Owns the registers' semantics (sizes, flag bits, command, interrupt line), not where a BAR goes.

export type BarKind = 'io' | 'mem32' | 'mem32p' | 'mem64' | 'mem64p' | 'rom';

/** Index of the expansion ROM among the registers hvmloader walks (0…5 are the BARs). */
export const ROM_INDEX = 6;

export interface PciBar {
  readonly index: number;
  readonly kind: BarKind;
  /** Bytes, a power of two. */
  readonly size: number;
}

export interface PciFunction {
  /** device << 3 | function */
  readonly devfn: number;
  readonly vendor: number;
  readonly device: number;
  /** Class and subclass, 16 bits. */
  readonly classCode: number;
  /** 0 none, 1 INTA … 4 INTD */
  readonly intPin: number;
  readonly command: number;
  readonly bars: readonly PciBar[];
}

export const PCI_COMMAND_IO = 1;
export const PCI_COMMAND_MEMORY = 2;
export const PCI_COMMAND_MASTER = 4;
const COMMAND_WRITABLE = 7;

/** Low bits of a BAR that are read-only: space, 64-bit type, prefetchable. */
const flagBits: Record<BarKind, number> = { io: 0x1, mem32: 0x0, mem32p: 0x8, mem64: 0x4, mem64p: 0xc, rom: 0x0 };
const minimumSize: Record<BarKind, number> = { io: 4, mem32: 16, mem32p: 16, mem64: 16, mem64p: 16, rom: 2048 };

const is64 = (kind: BarKind): boolean => kind === 'mem64' || kind === 'mem64p';

/** A register that holds a BAR, and what firmware put there. */
export interface BarRegister {
  readonly bar: PciBar;
  /** Byte offset in configuration space. */
  readonly reg: number;
  readonly flags: number;
  readonly is64bit: boolean;
  readonly isIo: boolean;
  /** What sizing finds; 0 where the register cannot hold such a BAR. */
  readonly size: number;
  /** Programmed address; null as long as firmware has not placed it. */
  address: number | null;
}

/** A function's configuration space as far as memory set-up goes. */
export class PciConfig {
  readonly fn: PciFunction;
  readonly registers: readonly BarRegister[];
  #command: number;
  intLine = 0;

  constructor(fn: PciFunction) {
    this.fn = fn;
    this.#command = fn.command;
    this.registers = [...fn.bars]
      .sort((a, b) => a.index - b.index)
      .map((bar) => ({
        bar,
        reg: bar.index === ROM_INDEX ? 0x30 : 0x10 + 4 * bar.index,
        flags: flagBits[bar.kind],
        is64bit: is64(bar.kind),
        isIo: bar.kind === 'io',
        size: sizeOf(bar),
        address: null,
      }));
  }

  get command(): number {
    return this.#command;
  }

  set command(value: number) {
    this.#command = value & COMMAND_WRITABLE;
  }

  /** The registers in walking order, without what the upper half of a 64-bit BAR hides. */
  sizedRegisters(): BarRegister[] {
    const found: BarRegister[] = [];
    let next = 0;
    for (const register of this.registers) {
      if (register.bar.index < next || register.size === 0) continue;
      found.push(register);
      next = register.bar.index + (register.is64bit ? 2 : 1);
    }
    return found;
  }

  /** `DD:F`, as hvmloader prints a function. */
  get name(): string {
    return `${(this.fn.devfn >> 3).toString(16).padStart(2, '0')}:${this.fn.devfn & 7}`;
  }
}

function lowestBit(value: number): number {
  let bit = 1;
  while (value % (bit * 2) === 0) bit *= 2;
  return bit;
}

/** The lowest writable address bit: what is left of all ones. I/O registers have 16 of them, 32-bit ones 32. */
function sizeOf(bar: PciBar): number {
  if (bar.size <= 0) return 0;
  const size = lowestBit(Math.max(bar.size, minimumSize[bar.kind]));
  if (bar.kind === 'io') return size < 2 ** 16 ? size : 0;
  return is64(bar.kind) || size < 2 ** 32 ? size : 0;
}
