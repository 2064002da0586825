// What is different when a PV domain is built: its memory map (one range up to maxmem, or the host's map with e820_host), and
// its population, for which only the number of pages matters: where they lie is the guest's own table. libxl's
// xc_domain_set_memmap_limit and e820 code, libxenguest's meminit_pv. Its kernel, and the page tables built for it, are not modelled.
import type { BuildInfo } from './build-info.ts';
import { E820_RAM, type E820Entry, KIB } from './e820.ts';
import type { BuilderHypercalls } from './meminit-hvm.ts';
import { ERROR_FAIL } from './passthrough-policy.ts';
import { type PvE820Result, sanitizePvE820 } from './pv-e820.ts';

const PAGES_PER_MIB = 256;
const ORDER_2M = 9;
const PAGES_2M = 512;

/** libxl adds a slack that nobody sets: 0. */
export function pvMemoryMap(build: BuildInfo, hostE820: readonly E820Entry[]): PvE820Result {
  const { maxMemkb, targetMemkb, config } = build;
  if (!config.e820Host) return { ok: true, e820: [{ addr: 0, size: maxMemkb * KIB, type: E820_RAM }] };
  if (hostE820.length === 0) return { ok: false, rc: ERROR_FAIL, message: "the host's memory map is empty" };
  return sanitizePvE820({ hostE820, targetMemkb, balloonKb: Math.max(0, maxMemkb - targetMemkb) });
}

/** Pages the domain starts with: its target in whole MiB. */
export const pvPages = (build: Pick<BuildInfo, 'targetMemkb'>): number =>
  Math.floor(build.targetMemkb / KIB) * PAGES_PER_MIB;

/** By 2 MiB as long as the host has such blocks, then by single pages. False: the host has too little. */
export function meminitPv(pages: number, claimEnabled: boolean, host: BuilderHypercalls): boolean {
  if (claimEnabled && !host.claim(pages)) return false;
  const blocks = Math.max(0, host.populate(ORDER_2M, 0, Math.floor(pages / PAGES_2M), 0));
  const done = blocks * PAGES_2M;
  const ok = done === pages || host.populate(0, 0, pages - done, done) === pages - done;
  if (claimEnabled) host.claim(0);
  return ok;
}
