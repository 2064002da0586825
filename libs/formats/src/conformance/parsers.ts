// Golden vectors of the text parsers: xl.cfg, PCI_SPEC_STRING, rdm=. Only decodes, calls the model, encodes.

import { parsePciSpec } from '#model/toolstack/pci-spec';
import { parseRdmSpec, type RdmSpec } from '#model/toolstack/rdm-spec';
import { Xlcfg } from '#model/toolstack/xlcfg';
import { parseXlcfg, type XlcfgValue } from '#model/toolstack/xlcfg-parser';
import { Fields, type Json, type JsonObject } from './fields.ts';

const EINVAL = 22;
const SOURCE_NAME = 'config';

const valueToJson = (value: XlcfgValue): Json =>
  value.kind === 'string' ? value.text : value.items.map((item) => valueToJson(item));

export function xluCfg(input: Json): Json {
  const parsed = parseXlcfg(new Fields(input).string('text'), SOURCE_NAME);
  const config = new Xlcfg(parsed.settings, SOURCE_NAME);
  const settings: Record<string, Json> = {};
  const integers: Record<string, Json> = {};
  for (const [name, setting] of parsed.settings) {
    settings[name] = valueToJson(setting.value);
    const long = config.getLong(name, true);
    if (long !== undefined) integers[name] = long.decimal;
  }
  return { ok: parsed.ok, errno: parsed.ok ? 0 : EINVAL, settings, integers, report: parsed.report };
}

const withReport = (result: JsonObject, report: string | undefined): JsonObject =>
  report === undefined ? result : { ...result, report };

export function xluPciSpec(input: Json): Json {
  const parsed = parsePciSpec(new Fields(input).string('spec'));
  if (!parsed.ok) return withReport({ ok: false, rc: parsed.rc }, parsed.report);
  const p = parsed.pci;
  const pci = {
    domain: p.domain,
    bus: p.bus,
    dev: p.dev,
    func: p.func,
    vdevfn: p.vdevfn,
    vfunc_mask: p.vfuncMask,
    msitranslate: p.msitranslate,
    power_mgmt: p.powerMgmt,
    permissive: p.permissive,
    seize: p.seize,
    rdm_policy: p.rdmPolicy,
    name: p.name,
  };
  return { ok: true, rc: 0, pci };
}

function rdmToJson(parsed: RdmSpec): Json {
  if (!parsed.ok) return withReport({ ok: false, rc: parsed.rc }, parsed.report);
  return withReport({ ok: true, rc: 0, strategy: parsed.strategy, policy: parsed.policy }, parsed.report);
}

const rdmSpec = (input: Json): string => new Fields(input).string('spec');
export const xluRdmParse = (input: Json): Json => rdmToJson(parseRdmSpec(rdmSpec(input)));
export const xluRdmParseVerbatim = (input: Json): Json =>
  rdmToJson(parseRdmSpec(rdmSpec(input), { bugCompatible: true }));
