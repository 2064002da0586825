// Golden vectors of Xen's p2m_pod_set_mem_target, answered by the real one: a host is booted whose heap holds just the
// vector's free 2M blocks and single pages, its domain gets the vector's memory, cache and entries by the model's own calls,
// and the outcome is read off the host. The vectors' host has two separate budgets where a real heap is one (a free 2M block
// also serves single pages), so "unlimited" 2M blocks are given as exactly those that could be asked for.
import { createDomain } from '#model/domain/create';
import type { Domain } from '#model/domain/domain';
import { domainRecord } from '#model/domain/domain-record';
import { permitIomem } from '#model/domain/iomem';
import { allocDomheap } from '#model/domain/memory';
import { createHost, Host } from '#model/host';
import { defaultPolicies, type HostConfig } from '#model/host-config';
import { errnoName } from '#model/hypercall/errno';
import { INITIAL_POOL_PAGES } from '#model/p2m/paging-pool';
import { podSetCacheTarget } from '#model/pod/cache-target';
import { markPopulateOnDemand } from '#model/pod/mark';
import { podSetMemTarget } from '#model/pod/target';
import { Fields, type Json, type JsonObject } from './conformance/fields.ts';

const CHUNK = 512;
const UNLIMITED = -1;
/** Frames that creating the domain takes: its paging pool and its shared-info page. */
const BIRTH_FRAMES = INITIAL_POOL_PAGES + 1;
const TABLE_PAGES = 4096;

interface Case {
  readonly populated: number;
  readonly cacheSuper: number;
  readonly cacheSingle: number;
  readonly entries: number;
  readonly target: number;
  readonly freeSuper: number;
  readonly freeSingle: number;
}

function readCase(input: Fields): Case {
  const populated = input.number('populated_pages');
  const cacheSuper = input.number('cache_superpages');
  const cacheSingle = input.number('cache_singles');
  const entries = input.number('entry_count');
  const target = input.number('target');
  const host = input.object('host');
  const wanted = populated > 0 ? Math.min(target - populated, entries) : target;
  const missing = Math.max(0, wanted - cacheSuper * CHUNK - cacheSingle);
  const limit = (budget: number, most: number): number => (budget === UNLIMITED ? most : Math.min(budget, most));
  const freeSuper = limit(host.number('superpages_free'), Math.floor(missing / CHUNK));
  const freeSingle = limit(host.number('single_pages_free'), missing - freeSuper * CHUNK);
  return { populated, cacheSuper, cacheSingle, entries, target, freeSuper, freeSingle };
}

/** Gives parts of an address space to the heap, one after the other. */
class Supplier {
  private readonly h: Host;
  private at = 0;

  constructor(h: Host) {
    this.h = h;
  }

  /** One contiguous, 2M-aligned run. */
  run(pages: number): void {
    this.h.heap.addRange(this.at, this.at + pages);
    this.at = Math.ceil((this.at + pages) / CHUNK) * CHUNK;
  }

  /** Single pages without a free neighbour, so that they stay single. */
  scattered(pages: number): void {
    for (let i = 0; i < pages; i++, this.at += 2) this.h.heap.addRange(this.at, this.at + 1);
    this.at = Math.ceil(this.at / CHUNK) * CHUNK;
  }
}

function config(c: Case): HostConfig {
  const runs = BIRTH_FRAMES + c.populated + (c.cacheSuper + c.freeSuper) * CHUNK;
  return {
    name: 'vector',
    pcpus: 1,
    dmaThreads: 0,
    maxDomains: 2,
    frames: runs + (c.cacheSingle + c.freeSingle) * 2 + 8 * CHUNK,
    heapRanges: [],
    memoryMap: [],
    hap: true,
    ept: { superpage2m: true, superpage1g: false },
    iommuEnabled: false,
    units: [],
    quarantine: 'none',
    devices: [],
    rmrrs: [],
    tablePages: TABLE_PAGES,
    policies: defaultPolicies,
  };
}

function must(rc: number, what: string): void {
  if (rc !== 0) throw new Error(`the vector's host cannot be built: ${what} answers ${rc}`);
}

function growCache(h: Host, d: Domain, pages: number): void {
  d.locks.pod.lock();
  must(podSetCacheTarget(h, d, d.r.podCount + pages, null), 'filling the cache');
  d.locks.pod.unlock();
}

/** Owned memory outside the cache; where it is mapped plays no part. */
function ownPages(h: Host, d: Domain, pages: number): void {
  for (let left = pages; left > 0; ) {
    // The run begins 2M-aligned, so pieces of falling order up to 2M fit it exactly.
    const order = Math.min(9, Math.floor(Math.log2(left)));
    must(Math.min(0, allocDomheap(h, d, order)), 'populating');
    left -= 2 ** order;
  }
}

function build(c: Case): { h: Host; d: Domain } {
  const h = new Host(createHost(config(c)), 0, { printk: () => {}, violation: () => {} });
  const supply = new Supplier(h);
  supply.run(BIRTH_FRAMES);
  const spec = {
    domid: 1,
    name: 'vector',
    hvm: true,
    hap: true,
    iommu: false,
    noSharept: false,
    deviceModel: true,
    vcpus: 1,
  };
  const d = createDomain(h, spec);
  if (typeof d === 'number') throw new Error(`the vector's domain cannot be built: ${d}`);
  d.r.maxPages = 2 ** 40;
  supply.run(c.cacheSuper * CHUNK);
  growCache(h, d, c.cacheSuper * CHUNK);
  supply.scattered(c.cacheSingle);
  growCache(h, d, c.cacheSingle);
  supply.run(c.populated);
  ownPages(h, d, c.populated);
  const chunks = Math.floor(c.entries / CHUNK);
  for (let i = 0; i < chunks; i++) must(markPopulateOnDemand(h, d, i * CHUNK, 9), 'marking');
  for (let i = chunks * CHUNK; i < c.entries; i++) must(markPopulateOnDemand(h, d, i, 0), 'marking');
  supply.run(c.freeSuper * CHUNK);
  supply.scattered(c.freeSingle);
  return { h, d };
}

/**
 * Where Xen's debug build stops at an ASSERT: a cache larger than what is still to be populated, which no domain of Xen's own
 * making has. The model goes on, as a release build does.
 */
function meetsAssertion(c: Case): boolean {
  const cache = c.cacheSuper * CHUNK + c.cacheSingle;
  return c.populated > 0 && c.entries > 0 && c.entries < cache && c.target >= c.populated + cache;
}

/** Which assertion it was is not compared. */
export const withoutAssertionText = (output: Json): Json => {
  const { assert_failed: failed } = output as JsonObject; // outputs of this file are objects
  return failed === undefined || failed === false ? output : { assert_failed: true };
};

/** The answer of the model, in the vectors' words. */
export function xenP2mPodSetMemTarget(input: Json): Json {
  const fields = new Fields(input);
  const c = readCase(fields);
  if (meetsAssertion(c) && !fields.boolean('is_dying')) return { assert_failed: true };
  const { h, d } = build(c);
  if (fields.boolean('is_dying')) Atomics.store(d.r.words, domainRecord.at.isDying, 1);
  if (fields.boolean('has_pdevs')) d.r.deviceCount = 1;
  if (fields.boolean('has_io_resources')) permitIomem(d, 0xf0000, 0xf00ff);
  const broken = h.counters.read('pod.breakChunk');
  const rc = podSetMemTarget(h, d, c.target, null);
  const superpagesBroken = h.counters.read('pod.breakChunk') - broken;
  const superDelta = d.podSuper.length - c.cacheSuper + superpagesBroken;
  const singleDelta = d.podSingle.length - c.cacheSingle - superpagesBroken * CHUNK;
  return {
    error: rc === 0 ? null : errnoName(rc),
    tot_pages: d.r.totPages,
    cache_pages: d.r.podCount,
    cache_superpages: d.podSuper.length,
    cache_singles: d.podSingle.length,
    allocated_superpages: Math.max(0, superDelta),
    allocated_singles: Math.max(0, singleDelta),
    freed_superpages: Math.max(0, -superDelta),
    freed_singles: Math.max(0, -singleDelta),
    superpages_broken: superpagesBroken,
  };
}
