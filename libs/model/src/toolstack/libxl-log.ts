// What libxl says: the lines of its log, each with the place in libxl's source that says it. Owns the places, all of them, and
// the forms of a line (plain, of a domain, with the reason of a failed call). When a line is said is its caller's business, how
// it is printed is the formats' (xl-output.ts).
//
// Files, functions and line numbers are those of Xen 4.17.7 as released, which is where real output was seen: four lines of a
// real 4.17 are word for word these. The build observed counts two lines more in libxl_create.c (a packager's change further
// up), so everything below that file's defaulting functions is two lines down here as well. A newer Xen has other numbers and
// the same words.
import { errnoText } from '../hypercall/errno.ts';

export interface LibxlPlace {
  readonly file: string;
  readonly line: number;
  readonly func: string;
}

/** One line on xl's stderr. `domainbuilder` is libxenguest, `xl` the command's (or this toolstack's) own words. */
export interface LogLine {
  readonly by: 'libxl' | 'domainbuilder' | 'xl';
  /** xl shows a `detail` with -v only; here it is shown where it is the reason of a failure. */
  readonly level: 'error' | 'warning' | 'detail';
  readonly at: LibxlPlace | null;
  /** The domain it is about, where libxl names one. */
  readonly domid: number | null;
  readonly text: string;
}

const place = (file: string, func: string, line: number): LibxlPlace => ({ file, line, func });
const inFunction =
  (file: string, func: string) =>
  (line: number): LibxlPlace =>
    place(file, func, line);

const buildInfo = inFunction('libxl_create.c', 'libxl__domain_build_info_setdefault');
const domainConfig = inFunction('libxl_create.c', 'libxl__domain_config_setdefault');
const arch = inFunction('libxl_x86.c', 'libxl__arch_passthrough_mode_setdefault');
const vnuma = inFunction('libxl_vnuma.c', 'libxl__vnuma_config_check');
const buildDom = inFunction('libxl_dom.c', 'libxl__build_dom');
const setMaxmem = inFunction('libxl_mem.c', 'libxl_domain_setmaxmem');
const setTarget = inFunction('libxl_mem.c', 'libxl_set_memory_target');
const rdm = inFunction('libxl_dm.c', 'libxl__domain_device_construct_rdm');
const pciAdd = inFunction('libxl_pci.c', 'libxl__device_pci_add');
const assignableAdd = inFunction('libxl_pci.c', 'libxl__device_pci_assignable_add');
const assignableRemove = inFunction('libxl_pci.c', 'libxl__device_pci_assignable_remove');

/** Where each line is said. */
export const libxlAt = {
  noHapNoShadow: place('libxl_create.c', 'libxl__domain_create_info_setdefault', 46),
  rombios: buildInfo(159),
  qxlVideoram: buildInfo(340),
  stdvgaVideoram: buildInfo(349),
  cirrusVideoram: buildInfo(358),
  createFailed: place('libxl_create.c', 'libxl__domain_make', 711),
  noPassthrough: domainConfig(1160),
  passthroughDisabled: domainConfig(1167),
  podWithPassthrough: domainConfig(1195),
  podWithVnuma: domainConfig(1205),
  pvVnuma: domainConfig(1215),
  nestedWithAltp2m: domainConfig(1251),
  podWithAltp2m: domainConfig(1261),
  cannotMake: place('libxl_create.c', 'initiate_domain_create', 1296),
  cannotBuild: place('libxl_create.c', 'domcreate_rebuild_done', 1640),
  unableToAdd: place('libxl_create.c', 'domcreate_attach_devices', 1921),
  pvhPassthrough: arch(831),
  sharePt: arch(849),
  memoryMap: place('libxl_x86.c', 'libxl__arch_domain_finalise_hw_description', 801),
  vnumaPnode: vnuma(113),
  vnumaMemory: vnuma(121),
  vnumaVcpuTwice: vnuma(134),
  vnumaVcpuMissing: vnuma(142),
  vnumaDistance: vnuma(196),
  maxMemory: place('libxl_dom.c', 'libxl__build_pre', 364),
  pagingPool: place('libxl_dom.c', 'libxl__domain_set_paging_mempool_size', 1470),
  memInit: buildDom(586),
  finaliseHw: buildDom(590),
  buildImage: buildDom(594),
  rdmCheck: place('libxl_dom.c', 'libxl__build_hvm', 1123),
  rdmQuery: place('libxl_dm.c', 'libxl__xc_device_get_rdm', 383),
  rdmConflict: rdm(620),
  rdmIgnored: rdm(624),
  nameTaken: place('libxl_domain.c', 'libxl__domain_rename', 81),
  unpause: place('libxl_domain.c', 'domain_unpause_done', 688),
  noDomain: place('libxl_domain.c', 'libxl__destroy_domid', 1183),
  destroyFailed: place('libxl_domain.c', 'domain_destroy_domid_cb', 1616),
  guestNotDestroyed: place('libxl_domain.c', 'domain_destroy_callback', 1137),
  destructionFailed: place('libxl_domain.c', 'domain_destroy_cb', 1064),
  maxmemNoTarget: setMaxmem(47),
  staticBelowDynamic: setMaxmem(59),
  maxmemFailed: setMaxmem(78),
  targetNoTarget: setTarget(234),
  targetNoStaticMax: setTarget(251),
  dynamicAboveStatic: setTarget(278),
  dom0TooSmall: setTarget(287),
  targetMaxmemFailed: setTarget(299),
  podTargetFailed: setTarget(313),
  deviceTaken: pciAdd(1658),
  notAssignable: pciAdd(1677),
  iomemPermission: place('libxl_pci.c', 'pci_add_dm_done', 1468),
  assignFailed: place('libxl_pci.c', 'pci_add_dm_done', 1529),
  deviceAddFailed: place('libxl_pci.c', 'device_pci_add_done', 1809),
  notAttached: place('libxl_pci.c', 'do_pci_remove', 1969),
  deassignFailed: place('libxl_pci.c', 'pci_remove_detached', 2258),
  noSuchDevice: assignableAdd(792),
  assignableAlready: assignableAdd(802),
  quarantineFailed: assignableAdd(848),
  dequarantineFailed: assignableRemove(906),
} as const satisfies Record<string, LibxlPlace>;

/** LOG and LOGD: with a domid the line names the domain. */
export const libxlError = (at: LibxlPlace, text: string, domid: number | null = null): LogLine => ({
  by: 'libxl',
  level: 'error',
  at,
  domid,
  text,
});

export const libxlWarning = (at: LibxlPlace, text: string): LogLine => ({ ...libxlError(at, text), level: 'warning' });

/** LOGE and LOGED: the system's words for the call's error follow. `rc` is what the hypervisor answered. */
export const libxlFailed = (at: LibxlPlace, text: string, rc: number, domid: number | null = null): LogLine =>
  libxlError(at, `${text}: ${errnoText(rc)}`, domid);

/** What libxenguest tells in passing: DOMPRINTF. */
export const builderDetail = (text: string): LogLine => ({
  by: 'domainbuilder',
  level: 'detail',
  at: null,
  domid: null,
  text,
});

/** Printed as it stands. */
export const xlSays = (text: string): LogLine => ({ by: 'xl', level: 'error', at: null, domid: null, text });
