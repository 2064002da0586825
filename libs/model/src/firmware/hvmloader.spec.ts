import { describe, expect, it } from 'vitest';
import { type HvmloaderRequest, runHvmloader } from './hvmloader.ts';
import type { PciFunction } from './pci-bus.ts';

const isaBridge: PciFunction = {
  devfn: 8,
  vendor: 0x8086,
  device: 0x7000,
  classCode: 0x601,
  intPin: 0,
  command: 0,
  bars: [],
};
const request: HvmloaderRequest = {
  xenVersion: '4.22-unstable',
  lowMemPgend: 0xf0000,
  highMemPgend: 0x10f800,
  memoryMap: [
    { addr: 0x100000, size: 0xeff00000, type: 1 },
    { addr: 0x100000000, size: 0xf800000, type: 1 },
  ],
  settings: { physBits: 39, allowMemoryRelocate: '0', xenPlatformPciBarUc: '1', mmioHoleSize: null },
  functions: [isaBridge],
  bios: 'seabios',
  biosImageBytes: 0x20000,
  acpiEnabled: true,
  acpiPages: 18,
};

function memory(populate = true) {
  const calls: string[] = [];
  const note = (call: string, result = true): boolean => calls.push(call) > 0 && result;
  return {
    calls,
    populatePage: (pfn: number) => note(`populate 0x${pfn.toString(16)}`, populate),
    relocate: (from: number, to: number) => note(`move 0x${from.toString(16)} 0x${to.toString(16)}`),
    mapSharedInfo: (pfn: number) => note(`shared info 0x${pfn.toString(16)}`),
  };
}

describe('the boot of hvmloader', () => {
  it('takes memory in its order: shared info, ACPI info page, ACPI tables, TSS', () => {
    const m = memory();
    const result = runHvmloader(request, m);
    expect(result.ok).toBe(true);
    expect(m.calls.slice(0, 3)).toEqual(['shared info 0xfdfff', 'populate 0xfc000', 'populate 0xfc001']);
    expect(m.calls).toHaveLength(1 + 1 + 18 + 1);
    expect(m.calls.at(-1)).toBe('populate 0xfc100');
  });

  it('prints its steps and the E820 dump', () => {
    const { lines } = runHvmloader(request, memory());
    expect(lines.slice(0, 3)).toEqual(['HVM Loader', 'Detected Xen v4.22-unstable', 'System requested SeaBIOS']);
    expect(lines).toContain('Relocating guest memory for lowmem MMIO space disabled');
    expect(lines).toContain(' HOLE: 00000000:f0000000 - 00000000:fc000000');
    expect(lines.at(-1)).toBe('Invoking SeaBIOS ...');
  });

  it('a guest whose hypervisor gives no page pays with its own RAM, and the E820 shows it', () => {
    const result = runHvmloader(request, memory(false));
    expect(result.info.highMemPgend).toBe(0x10f800 - 20);
    expect(result.ok && result.e820.at(-1)).toEqual({ addr: 0x100000000, size: 0xf800000 - 20 * 4096, type: 1 });
  });

  it('OVMF lies in pages populated below 4 GiB', () => {
    const m = memory();
    const result = runHvmloader({ ...request, bios: 'ovmf', biosImageBytes: 2 ** 21, acpiEnabled: false }, m);
    expect(m.calls.filter((call) => call.startsWith('populate 0xffe'))).toHaveLength(256);
    expect(result.ok && result.e820[1]).toEqual({ addr: 0xf0000, size: 0x10000, type: 2 });
  });

  it('a bug is a result: the guest crashes itself with the words of hvmloader', () => {
    const rmrr = { addr: 0xfd000000, size: 0x1000, type: 2 } as const;
    const result = runHvmloader({ ...request, memoryMap: [...request.memoryMap, rmrr] }, memory());
    expect(result).toMatchObject({ ok: false, error: 'bug' });
    expect(result.lines.slice(-2)).toEqual(['*** HVMLoader bug at e820.c:52', '*** HVMLoader crashed.']);
  });
});
