// Conformance with Xen's own numbers: which model function answers which file of golden vectors, and the comparison of a
// file's cases. Opens no file; the caller hands over the text. See test/vectors/README.md for the format.

import { e2eHvmMemory } from './conformance/chain.ts';
import { type Difference, firstDifference, type Json, type JsonObject } from './conformance/fields.ts';
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
import { withoutAssertionText, xenP2mPodSetMemTarget } from './conformance-pod.ts';
import { OperatorError } from './operator-error.ts';

interface VectorFunction {
  /** What the documented behaviour gives for a case's input. */
  readonly run: (input: Json) => Json;
  /** Xen's behaviour to the letter, where a file has both (`output` beside `output_documented`). */
  readonly verbatim?: (input: Json) => Json;
  /** Applied to both sides before they are compared. */
  readonly normalise?: (output: Json) => Json;
}

const registry: ReadonlyMap<string, VectorFunction> = new Map<string, VectorFunction>([
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
  ['xen_p2m_pod_set_mem_target.json', { run: xenP2mPodSetMemTarget, normalise: withoutAssertionText }],
  ['xlu_cfg.json', { run: xluCfg }],
  ['xlu_pci_spec.json', { run: xluPciSpec }],
  ['xlu_rdm_parse.json', { run: xluRdmParse, verbatim: xluRdmParseVerbatim }],
]);

export const vectorFiles: readonly string[] = [...registry.keys()];

export interface VectorMode {
  /** Xen to the letter, its known bugs included; otherwise what Xen documents. */
  readonly bugCompat: boolean;
}

/** One case that fails: where it parts from what was expected, or with what it broke off. */
export type Mismatch = { readonly name: string } & (Difference | { readonly error: string });

export interface VectorReport {
  readonly file: string;
  readonly total: number;
  readonly mismatches: readonly Mismatch[];
}

interface VectorCase {
  readonly name: string;
  readonly input: Json;
  readonly output: Json;
  readonly documented: Json | undefined;
}

function compareCase(fn: VectorFunction, one: VectorCase, mode: VectorMode): Mismatch | null {
  const run = mode.bugCompat ? (fn.verbatim ?? fn.run) : fn.run;
  const expected = mode.bugCompat ? one.output : (one.documented ?? one.output);
  const normalise = fn.normalise ?? ((output: Json) => output);
  try {
    const difference = firstDifference(normalise(run(one.input)), normalise(expected));
    return difference === null ? null : { name: one.name, ...difference };
  } catch (error) {
    return { name: one.name, error: error instanceof Error ? error.message : String(error) };
  }
}

const wrong = (file: string, message: string, remedy: string): OperatorError =>
  new OperatorError([{ file, message, remedy }]);

const SHAPE = 'the file must be an array of { "name": text, "input": {…}, "output": {…} }';

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readCase(path: string, value: Json, index: number): VectorCase {
  const refuse = (what: string): OperatorError => wrong(path, `case ${index + 1}: ${what}`, SHAPE);
  if (!isObject(value)) throw refuse('no object');
  const { name, input, output, output_documented: documented } = value;
  if (typeof name !== 'string') throw refuse('no "name"');
  if (!isObject(input)) throw refuse(`"input" of ${name} is no object`);
  if (output === undefined) throw refuse(`${name} has no "output"`);
  return { name, input, output, documented };
}

function parse(path: string, text: string): Json {
  try {
    return JSON.parse(text) as Json; // what JSON.parse gives is Json
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw wrong(path, `not JSON: ${message}`, 'correct or remove the file');
  }
}

/**
 * Runs every case of one file, whose name says which function answers it. `path` is what messages call the file. A name that
 * nobody answers for, text that is not JSON and cases without name, input or output are an OperatorError; a case whose function
 * breaks off is a failed case.
 */
export function runVectorFile(file: string, path: string, text: string, mode: VectorMode): VectorReport {
  const fn = registry.get(file);
  if (fn === undefined) throw wrong(path, 'no function answers to this file name', `known: ${vectorFiles.join(', ')}`);
  const list = parse(path, text);
  if (!Array.isArray(list)) throw wrong(path, 'no array of cases', SHAPE);
  const cases = (list as readonly Json[]).map((value, index) => readCase(path, value, index)); // narrowed by isArray
  const mismatches = cases.flatMap((one) => compareCase(fn, one, mode) ?? []);
  return { file, total: cases.length, mismatches };
}
