// Conformance with Xen's own numbers: which model function answers which file of golden vectors, and the comparison of a
// file's cases. Reads no file; the caller hands over parsed JSON. See test/vectors/README.md for the format.

import { e2eHvmMemory } from './conformance/chain.ts';
import { Fields, firstDifference, type Json } from './conformance/fields.ts';
import {
  hvmloaderAdjustMemoryMap,
  hvmloaderBuildE820,
  hvmloaderMemAlloc,
  hvmloaderMemoryMapSetup,
  hvmloaderPciSetup,
} from './conformance/firmware.ts';
import { xluCfg, xluPciSpec, xluRdmParse, xluRdmParseVerbatim } from './conformance/parsers.ts';
import {
  expandEvents,
  libxlBuildLayout,
  libxlConstructMemmap,
  libxlConstructRdm,
  libxlMemoryCalc,
  libxlPassthroughPolicy,
  libxlPvE820Sanitize,
  xcMeminitHvm,
} from './conformance/toolstack.ts';
import { xenP2mPodSetMemTarget } from './conformance-pod.ts';

export type { Json };
export { Fields };

export interface VectorFunction {
  /** What the documented behaviour gives for a case's input. */
  readonly run: (input: Json) => Json;
  /** Xen's behaviour to the letter, where the file has both (`output` beside `output_documented`). */
  readonly verbatim?: (input: Json) => Json;
  /** Applied to both sides before they are compared. */
  readonly normalise?: (output: Json) => Json;
}

const registry = new Map<string, VectorFunction>([
  ['e2e_hvm_memory.json', { run: e2eHvmMemory }],
  ['hvmloader_adjust_memory_map.json', { run: hvmloaderAdjustMemoryMap }],
  ['hvmloader_build_e820.json', { run: hvmloaderBuildE820 }],
  ['hvmloader_mem_alloc.json', { run: hvmloaderMemAlloc }],
  ['hvmloader_memory_map_setup.json', { run: hvmloaderMemoryMapSetup }],
  ['hvmloader_pci_setup.json', { run: hvmloaderPciSetup }],
  ['libxl_build_layout.json', { run: libxlBuildLayout }],
  ['libxl_construct_memmap.json', { run: libxlConstructMemmap }],
  ['libxl_construct_rdm.json', { run: libxlConstructRdm }],
  ['libxl_memory_calc.json', { run: libxlMemoryCalc }],
  ['libxl_passthrough_policy.json', { run: libxlPassthroughPolicy }],
  ['libxl_pv_e820_sanitize.json', { run: libxlPvE820Sanitize }],
  ['xc_meminit_hvm.json', { run: xcMeminitHvm, normalise: expandEvents }],
  ['xen_p2m_pod_set_mem_target.json', { run: xenP2mPodSetMemTarget }],
  ['xlu_cfg.json', { run: xluCfg }],
  ['xlu_pci_spec.json', { run: xluPciSpec }],
  ['xlu_rdm_parse.json', { run: xluRdmParse, verbatim: xluRdmParseVerbatim }],
]);

/** Files whose function belongs to another area, which adds it by registerVectorFunction. */
export const registerLater: readonly string[] = [];

export function registerVectorFunction(file: string, fn: VectorFunction): void {
  registry.set(file, fn);
}

export const vectorFiles = (): string[] => [...registry.keys()].sort();

export interface Mismatch {
  readonly name: string;
  readonly difference: string;
}

export interface VectorReport {
  readonly file: string;
  /** `pending`: nobody has registered a function for a known file; `unknown`: the file is not one of ours. */
  readonly status: 'compared' | 'pending' | 'unknown';
  readonly cases: number;
  readonly mismatches: readonly Mismatch[];
}

function compareCase(fn: VectorFunction, one: Fields): string | null {
  const input = one.raw('input') ?? null;
  const normalise = fn.normalise ?? ((output: Json) => output);
  const compare = (run: (input: Json) => Json, expected: Json | undefined): string | null => {
    try {
      return firstDifference(normalise(run(input)), normalise(expected ?? null));
    } catch (error) {
      return `failed: ${error instanceof Error ? error.message : String(error)}`;
    }
  };
  const documented = compare(fn.run, one.raw('output_documented') ?? one.raw('output'));
  if (documented !== null || fn.verbatim === undefined) return documented;
  const verbatim = compare(fn.verbatim, one.raw('output'));
  return verbatim === null ? null : `bug-compatible ${verbatim}`;
}

/** Runs every case of one file through the function registered for its name. */
export function compareVectors(file: string, cases: Json): VectorReport {
  const list = new Fields({ cases }).list('cases');
  const fn = registry.get(file);
  if (fn === undefined) {
    return { file, status: registerLater.includes(file) ? 'pending' : 'unknown', cases: list.length, mismatches: [] };
  }
  const mismatches: Mismatch[] = [];
  for (const one of list) {
    const difference = compareCase(fn, one);
    if (difference !== null) mismatches.push({ name: one.string('name'), difference });
  }
  return { file, status: 'compared', cases: list.length, mismatches };
}
