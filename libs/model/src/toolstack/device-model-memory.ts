// Memory that the device model adds to an HVM guest beside its RAM: the adapter's video memory and its option ROM. They are the
// guest's frames (xl list counts them), populated by QEMU out of what memory= set aside as videoram and of libxl's slack.
// QEMU populates them behind the guest's RAM and moves the video memory to where firmware puts the adapter's first BAR; here
// it is populated there at once. Behind RAM means above 4 GiB where low RAM reaches so far that they would run into the window
// for BARs.
import type { HvmloaderResult } from '../firmware/hvmloader.ts';
import type { BuildInfo } from './build-info.ts';
import { FOUR_GIB } from './e820.ts';
import { VGA_DEVFN, videoBytes } from './emulated-bus.ts';

const PAGE = 4096;
const ROM_PAGES = 16;

export interface PopulateRun {
  readonly start: number;
  readonly count: number;
}

/** The adapter's first window, if firmware placed it. */
function windowOf(firmware: HvmloaderResult): { readonly address: number; readonly size: number } | null {
  if (!firmware.ok) return null;
  const adapter = firmware.pci.devices.find(({ fn }) => fn.devfn === VGA_DEVFN);
  const register = adapter?.registers.find(({ bar }) => bar.index === 0);
  return register && register.address !== null ? { address: register.address, size: register.size } : null;
}

/** What is to be populated, by 4K pages. */
export function deviceModelMemory(
  build: Pick<BuildInfo, 'vga' | 'videoMemkb'>,
  ram: { readonly lowmemEnd: number; readonly highmemEnd: number; readonly mmioStart: number },
  firmware: HvmloaderResult,
): readonly PopulateRun[] {
  if (build.vga === 'none' || build.videoMemkb === 0) return [];
  const video = videoBytes(build.videoMemkb);
  const end = Math.max(ram.lowmemEnd, ram.highmemEnd);
  const behind = end < FOUR_GIB && end + video + ROM_PAGES * PAGE > ram.mmioStart ? FOUR_GIB : end;
  const window = windowOf(firmware);
  const at = window && window.size >= video ? window.address : behind;
  return [
    { start: at / PAGE, count: video / PAGE },
    { start: (behind + video) / PAGE, count: ROM_PAGES },
  ];
}
