// What a page may have done to the host: the deeds with their limits, and the commands of the toolstack that they are. Nothing else
// reaches the toolstack from a browser.
import { z } from 'zod';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { GuestCommand } from '#model/guest/guest-spec';
import type { Deed } from '#wire/dashboard';
import { encodeCreate } from '#wire/xl-create';

/** An xl.cfg is some hundred bytes. */
const CONFIG_MAX = 32_768;
const ATTEMPTS_MAX = 1000;
const MB_MAX = 2 ** 24;
const WORK_MB_MAX = 4096;

const domid = z.int().min(1).max(0x7fef);
const anyDomid = z.int().min(0).max(0x7fef);
const sbdf = z.string().regex(/^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/, 'a device is named 0000:00:02.0');

export const deedSchema: z.ZodType<Deed> = z.discriminatedUnion('do', [
  z.object({ do: z.literal('create'), config: z.string().min(1).max(CONFIG_MAX) }),
  z.object({ do: z.literal(['destroy', 'reboot', 'shutdown', 'pause', 'unpause']), domid }),
  z.object({ do: z.literal('mem-set'), domid: anyDomid, mb: z.int().min(1).max(MB_MAX) }),
  z.object({ do: z.literal(['pci-assignable-add', 'pci-assignable-remove']), sbdf }),
  z.object({ do: z.literal(['pci-attach', 'pci-detach']), domid, sbdf }),
  z.object({
    do: z.literal('dma'),
    domid,
    sbdf: z.int().min(0),
    place: z.union([
      z.literal(['untouched', 'touched']),
      z
        .int()
        .min(0)
        .max(2 ** 36),
    ]),
    attempts: z.int().min(1).max(ATTEMPTS_MAX),
  }),
  z.object({ do: z.literal('work'), domid, mb: z.int().min(0).max(WORK_MB_MAX) }),
  z.object({ do: z.literal('check-invariants') }),
]);

export interface Verb {
  readonly verb: string;
  readonly args: readonly string[];
}

const command = (domid: number, order: GuestCommand): Verb => ({
  verb: 'guest-command',
  args: [String(domid), JSON.stringify(order)],
});

const MEMORY_ID = 'dashboard-memory';
const MEMORY_FRAMES_PER_SECOND = 20_000;
const GPU_BUFFER_FRAMES = 256;

/** Its driver for the device, unless it has one: it takes buffers that no CPU touches, and survives faults. */
const driverOf = (device: number): GuestCommand => ({
  do: 'start',
  workload: {
    id: `dashboard-gpu-${device.toString(16)}`,
    kind: 'gpu',
    device,
    bufferGfn: null,
    bufferFrames: GPU_BUFFER_FRAMES,
    bursts: 0,
    burstFrames: 1,
    framesPerSecond: 0,
    onFault: 'count',
    resetsBeforeCrash: 0,
  },
});

const memoryWork = (mb: number): GuestCommand =>
  mb === 0
    ? { do: 'stop', id: MEMORY_ID }
    : {
        do: 'start',
        workload: {
          id: MEMORY_ID,
          kind: 'memory',
          mb,
          framesPerSecond: MEMORY_FRAMES_PER_SECOND,
          verify: true,
          onCorruption: 'count',
        },
      };

/** As `hostloom xl` would be called, one after the other; none: not the toolstack's business. */
export function verbsOf(deed: Deed): readonly Verb[] {
  switch (deed.do) {
    case 'create': {
      const kernel = { balloon: { enabled: true } };
      const args = encodeCreate({ source: 'dashboard.cfg', text: deed.config, kernel, settings: [] });
      return [{ verb: 'create', args }];
    }
    case 'mem-set':
      return [{ verb: 'mem-set', args: [String(deed.domid), `${deed.mb}m`] }];
    case 'pci-assignable-add':
    case 'pci-assignable-remove':
      return [{ verb: deed.do, args: [deed.sbdf] }];
    case 'pci-attach':
    case 'pci-detach':
      return [{ verb: deed.do, args: [String(deed.domid), deed.sbdf] }];
    case 'dma': {
      const { domid, sbdf: device, attempts, place } = deed;
      return [command(domid, driverOf(device)), command(domid, { do: 'gpu-dma', device, attempts, place })];
    }
    case 'work':
      return [command(deed.domid, memoryWork(deed.mb))];
    case 'check-invariants':
      return [];
    default:
      return [{ verb: deed.do, args: [String(deed.domid)] }];
  }
}

/** For the log: who did what. */
export function deedText(deed: Deed): string {
  switch (deed.do) {
    case 'create':
      return 'xl create';
    case 'dma':
      return `DMA by ${formatSbdf(deed.sbdf as Sbdf)} of d${deed.domid}`;
    case 'work':
      return deed.mb === 0
        ? `no more memory work in d${deed.domid}`
        : `memory work of ${deed.mb} MiB in d${deed.domid}`;
    case 'check-invariants':
      return 'check of the invariants';
    default: {
      const [verb] = verbsOf(deed);
      return `xl ${verb?.verb} ${verb?.args.join(' ')}`;
    }
  }
}
