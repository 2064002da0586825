// What Xen says while it boots, as far as the memory plane is concerned: the memory map, RMRRs, IOMMU, dom0. Lines only.
import { PAGE_SIZE } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { E820Type, MemoryMapEntry } from '../hypercall/calls.ts';

const typeName: Readonly<Record<E820Type, string>> = {
  1: 'usable',
  2: 'reserved',
  3: 'ACPI data',
  4: 'ACPI NVS',
  5: 'unusable',
};

const hex = (n: number, digits: number): string => n.toString(16).padStart(digits, '0');

const mapLine = ({ addr, size, type }: MemoryMapEntry): string =>
  ` [${hex(addr, 16)}, ${hex(addr + size - 1, 16)}] (${typeName[type]})`;

export function printMemoryMap(h: Host): void {
  h.platform.printk('Xen-e820 RAM map:');
  for (const entry of h.config.memoryMap) h.platform.printk(mapLine(entry));
  const bytes = h.config.memoryMap.reduce((sum, { type, size }) => sum + (type === 1 ? size : 0), 0);
  h.platform.printk(`System RAM: ${Math.floor(bytes / 2 ** 20)}MB (${Math.floor(bytes / 1024)}kB)`);
}

/** As `iommu=verbose` shows the DMAR while it is read. */
export function printDmar(h: Host): void {
  for (const line of h.shared.dmarLines) h.platform.printk(line);
}

const pageSizes = (superpage2m: boolean, superpage1g: boolean): string =>
  ['4kB', ...(superpage2m ? ['2MB'] : []), ...(superpage1g ? ['1GB'] : [])].join(', ');

export function printIommu(h: Host, shared: boolean): void {
  if (!h.config.iommuEnabled) {
    h.platform.printk('I/O virtualisation disabled');
    return;
  }
  for (const unit of h.config.units) {
    h.platform.printk(
      `Intel VT-d iommu ${unit.id} supported page sizes: ${pageSizes(unit.superpage2m, unit.superpage1g)}`,
    );
  }
  const every = h.config.units.every(({ snoopControl }) => snoopControl);
  h.platform.printk(`Intel VT-d Snoop Control ${every ? '' : 'not '}enabled.`);
  h.platform.printk(`Intel VT-d Shared EPT tables ${shared ? '' : 'not '}enabled.`);
  h.platform.printk('I/O virtualisation enabled');
  h.platform.printk(' - Dom0 mode: Strict');
}

export function printHap(h: Host): void {
  if (!h.config.hap) return;
  h.platform.printk('HVM: Hardware Assisted Paging (HAP) detected');
  h.platform.printk(`HVM: HAP page sizes: ${pageSizes(h.config.ept.superpage2m, h.config.ept.superpage1g)}`);
}

/** Xen's default for low_mem_virq_limit. */
const LOW_MEM_PAGES = (64 * 2 ** 20) / PAGE_SIZE;

/** The threshold is a power of two of pages, and at most half of what is free (as Xen's setup_low_mem_virq). */
export function printLowMemory(h: Host): void {
  const limit = Math.min(LOW_MEM_PAGES, Math.floor(h.heap.freePages / 2));
  const threshold = limit < 1 ? 1 : 2 ** Math.floor(Math.log2(limit));
  h.platform.printk(`Initial low memory virq threshold set at 0x${threshold.toString(16)} pages.`);
}
