// Golden vectors of the domain builder: layout, RDM, memory map, population, memory arithmetic, passthrough policy, PV map.
// Only decodes, calls the model with the host model that the vectors describe, encodes.

import { type HvmLayout, planLayout } from '#model/toolstack/build-layout';
import { constructRdm, type RdmPlan, type RdmQuery } from '#model/toolstack/construct-rdm';
import type { E820Entry, E820Type } from '#model/toolstack/e820';
import { type BuilderHypercalls, meminitHvm } from '#model/toolstack/meminit-hvm';
import { constructMemmap } from '#model/toolstack/memory-map';
import {
  needMemkb,
  requiredIommuMemkb,
  requiredPagingMemkb,
  targetFudgeKb,
  xenstoreMemory,
} from '#model/toolstack/memory-maths';
import { resolvePassthrough } from '#model/toolstack/passthrough-policy';
import { sanitizePvE820 } from '#model/toolstack/pv-e820';
import { Fields, hex, type Json, type JsonObject } from './fields.ts';

const domainTypes = ['hvm', 'pv', 'pvh'] as const;
const hvmTypes = ['hvm', 'pvh'] as const;
export const policies = ['strict', 'relaxed', 'invalid'] as const;
export const strategies = ['host', 'ignore'] as const;
const passthroughOptions = ['default', 'disabled', 'enabled', 'sync_pt', 'share_pt'] as const;
const altp2mModes = ['disabled', 'mixed', 'external', 'limited'] as const;

export const readE820 = (entries: readonly Fields[]): E820Entry[] =>
  entries.map((e) => ({ addr: e.hex('addr'), size: e.hex('size'), type: e.number('type') as E820Type })); // as documented: 1…5

export const e820ToJson = (entries: readonly E820Entry[]): Json =>
  entries.map((e) => ({ addr: hex(e.addr), size: hex(e.size), type: e.type }));

export const layoutToJson = (l: HvmLayout): JsonObject => ({
  lowmem_end: hex(l.lowmemEnd),
  highmem_end: hex(l.highmemEnd),
  mmio_start: hex(l.mmioStart),
  mmio_size: hex(l.mmioSize),
  target_pages: l.targetPages,
  vga_hole_pages: l.vgaHolePages,
});

export function libxlBuildLayout(input: Json): Json {
  const f = new Fields(input);
  return layoutToJson(
    planLayout({
      type: f.word('type', hvmTypes),
      maxMemkb: f.number('max_memkb'),
      targetMemkb: f.number('target_memkb'),
      videoMemkb: f.number('video_memkb'),
      mmioHoleMemkb: f.number('mmio_hole_memkb'),
    }),
  );
}

/** The hypervisor's region list, as the vectors give it. */
export function readHostRdm(regions: readonly Fields[]): RdmQuery<string> {
  const list = regions.map((r) => ({
    startPfn: r.hex('start_pfn'),
    nrPages: r.number('nr_pages'),
    devices: r.strings('devices'),
  }));
  return { all: () => list, forDevice: (sbdf) => list.filter((r) => r.devices.includes(sbdf)) };
}

export const readPcidevs = (devices: readonly Fields[]) =>
  devices.map((d) => ({ device: d.string('sbdf'), rdmPolicy: d.word('rdm_policy', policies) }));

export const rdmPlanToJson = (plan: RdmPlan): JsonObject => ({
  ok: plan.ok,
  lowmem_end: hex(plan.lowmemEnd),
  highmem_end: hex(plan.highmemEnd),
  rdms: plan.rdms.map((r) => ({ start: hex(r.start), size: hex(r.size), policy: r.policy })),
  warnings: plan.warnings.length,
  errors: plan.errors.length,
});

export function libxlConstructRdm(input: Json): Json {
  const f = new Fields(input);
  const request = {
    lowmemEnd: f.hex('lowmem_end'),
    highmemEnd: f.hex('highmem_end'),
    hap: f.boolean('hap'),
    strategy: f.word('strategy', strategies),
    policy: f.word('policy', policies),
    boundaryMemkb: f.number('rdm_mem_boundary_memkb'),
    pcidevs: readPcidevs(f.list('pcidevs')),
  };
  return rdmPlanToJson(constructRdm(request, readHostRdm(f.list('host_rdm'))));
}

export function libxlConstructMemmap(input: Json): Json {
  const f = new Fields(input);
  const result = constructMemmap({
    type: f.word('type', hvmTypes),
    lowmemEnd: f.hex('lowmem_end'),
    highmemEnd: f.hex('highmem_end'),
    rdms: f
      .list('rdms')
      .map((r) => ({ start: r.hex('start'), size: r.hex('size'), policy: r.word('policy', policies) })),
    acpiModules: f.list('acpi_modules').map((m) => ({ guestAddr: m.hex('guest_addr'), length: m.number('length') })),
  });
  return result.ok ? { ok: true, memmap: e820ToJson(result.memmap) } : { ok: false, memmap: [] };
}

/** A host with budgets that records every call the builder makes. */
class RecordingHost implements BuilderHypercalls {
  readonly events: JsonObject[] = [];
  readonly #budgets: Map<number, number>;
  readonly #claimFails: boolean;
  readonly #podTargetFails: boolean;

  constructor(host: Fields) {
    const budget = (key: string): number => (host.number(key) < 0 ? Number.POSITIVE_INFINITY : host.number(key));
    this.#budgets = new Map([
      [18, budget('extents_1g')],
      [9, budget('extents_2m')],
      [0, budget('pages_4k')],
    ]);
    this.#claimFails = host.boolean('claim_fails');
    this.#podTargetFails = host.boolean('pod_target_fails');
  }

  populate(order: number, flags: number, extents: number, firstPfn: number): number {
    const left = this.#budgets.get(order) ?? 0;
    const done = Math.min(extents, left);
    this.#budgets.set(order, left - done);
    this.events.push({
      op: 'populate',
      order,
      flags: hex(flags),
      exact: order === 0,
      nr_extents: extents,
      first_pfn: hex(firstPfn),
      done_each: done,
      repeat: 1,
    });
    return done;
  }

  claim(pages: number): boolean {
    this.events.push({ op: 'claim', pages });
    return pages === 0 || !this.#claimFails;
  }

  setPodTarget(pages: number): boolean {
    this.events.push({ op: 'set_pod_target', pages });
    return !this.#podTargetFails;
  }
}

export function xcMeminitHvm(input: Json): Json {
  const f = new Fields(input);
  const host = new RecordingHost(f.object('host'));
  const result = meminitHvm(
    {
      totalPages: f.number('total_pages'),
      targetPages: f.number('target_pages'),
      lowmemEnd: f.hex('lowmem_end'),
      highmemEnd: f.hex('highmem_end'),
      mmioStart: f.hex('mmio_start'),
      mmioSize: f.hex('mmio_size'),
      vgaHolePages: f.number('vga_hole_pages'),
      deviceModel: f.boolean('device_model'),
      claimEnabled: f.boolean('claim_enabled'),
      memflags: f.hex('memflags'),
      vmemranges: f.list('vmemranges').map((r) => ({ start: r.hex('start'), end: r.hex('end'), nid: r.number('nid') })),
      vnodeToPnode: f.numbers('vnode_to_pnode'),
    },
    host,
  );
  const common = {
    ok: result.ok,
    events: host.events,
    populate_calls: host.events.filter((e) => e.op === 'populate').length,
    p2m_size: hex(result.p2mSize),
  };
  if (!result.ok) return common;
  const { pages4k, pages2m, pages1g } = result.counts;
  return { ...common, counts: { '4k': pages4k, '2m': pages2m, '1g': pages1g } };
}

/** The recorder's compression undone: one event a hypercall, so that logs compare call by call. */
export function expandEvents(output: Json): Json {
  const f = new Fields(output);
  const expand = (events: readonly Fields[], pfnOffset: number): JsonObject[] => {
    const out: JsonObject[] = [];
    for (const e of events) {
      const op = e.string('op');
      if (op === 'loop') {
        for (let i = 0; i < e.number('count'); i++) {
          out.push(...expand(e.list('body'), pfnOffset + i * e.number('pfn_stride')));
        }
      } else if (op === 'populate') {
        const [order, extents] = [e.number('order'), e.number('nr_extents')];
        const [flags, exact, done] = [e.string('flags'), e.boolean('exact'), e.number('done_each')];
        for (let i = 0; i < e.number('repeat'); i++) {
          const first = e.hex('first_pfn') + pfnOffset + i * extents * 2 ** order;
          out.push({ op, order, extents, flags, exact, done, first });
        }
      } else {
        out.push({ op, pages: e.number('pages') });
      }
    }
    return out;
  };
  return { ...(output as JsonObject), events: expand(f.list('events'), 0) }; // an object: Fields has checked it
}

export function libxlMemoryCalc(input: Json): Json {
  const f = new Fields(input);
  const type = f.word('type', domainTypes);
  const memory = {
    type,
    maxMemkb: f.number('max_memkb'),
    targetMemkb: f.number('target_memkb'),
    videoMemkb: f.number('video_memkb'),
  };
  const xenstore = xenstoreMemory(memory);
  return {
    required_paging_memkb: requiredPagingMemkb(memory.maxMemkb, f.number('max_vcpus'), type, f.boolean('hap')),
    required_iommu_memkb: requiredIommuMemkb(memory.maxMemkb),
    need_memkb: needMemkb({
      ...memory,
      shadowMemkb: f.number('shadow_memkb'),
      iommuMemkb: f.number('iommu_memkb'),
      stubdomain: f.boolean('stubdomain'),
      stubdomainMemkb: f.number('stubdomain_memkb'),
    }),
    target_fudge_kb: targetFudgeKb(memory),
    xenstore_memory_target: xenstore.target,
    xenstore_memory_static_max: xenstore.staticMax,
    xenstore_memory_videoram: xenstore.videoram,
  };
}

export function libxlPassthroughPolicy(input: Json): Json {
  const f = new Fields(input);
  const choice = resolvePassthrough({
    type: f.word('type', domainTypes),
    hap: f.boolean('hap'),
    numPcidevs: f.number('num_pcidevs'),
    numDtdevs: f.number('num_dtdevs'),
    passthrough: f.word('passthrough', passthroughOptions),
    capHvmDirectio: f.boolean('cap_hvm_directio'),
    capIommuHapPtShare: f.boolean('cap_iommu_hap_pt_share'),
    targetMemkb: f.number('target_memkb'),
    maxMemkb: f.number('max_memkb'),
    numVnumaNodes: f.number('num_vnuma_nodes'),
    nestedhvm: f.boolean('nestedhvm'),
    altp2m: f.word('altp2m', altp2mModes),
    legacyAltp2mhvm: f.boolean('legacy_altp2mhvm'),
    maxVcpus: f.number('max_vcpus'),
    shadowMemkb: f.nullable('shadow_memkb', (k) => f.number(k)),
    iommuMemkb: f.nullable('iommu_memkb', (k) => f.number(k)),
  });
  if (!choice.ok) return { ok: false, rc: choice.rc, message: choice.message };
  return {
    ok: true,
    passthrough: choice.passthrough,
    shadow_memkb: choice.shadowMemkb,
    iommu_memkb: choice.iommuMemkb,
  };
}

export function libxlPvE820Sanitize(input: Json): Json {
  const f = new Fields(input);
  const result = sanitizePvE820({
    hostE820: readE820(f.list('host_e820')),
    targetMemkb: f.number('target_memkb'),
    balloonKb: f.number('balloon_kb'),
  });
  return result.ok ? { ok: true, e820: e820ToJson(result.e820) } : { ok: false, rc: result.rc };
}
