// Codec of a context entry: what a unit knows of one device. VT-d's 128 bits are one slot here, so that an update is one
// store, as Xen's 128-bit compare-and-exchange. 0 = not present.
//
//   bit 0 present   3:2 type   6:4 levels   7 tables are the EPT's   23:8 domain id   24… root

export const contextType = { multiLevel: 0, multiLevelAts: 1, passThrough: 2, reserved: 3 } as const;

const ROOT_SCALE = 2 ** 24;

export interface ContextFields {
  readonly type: number;
  readonly levels: number;
  /** The root is an EPT root (its slots carry p2m types). */
  readonly shared: boolean;
  readonly did: number;
  /** Table index. */
  readonly root: number;
}

export const makeContext = (c: ContextFields): number =>
  c.root * ROOT_SCALE + (1 | (c.type << 2) | (c.levels << 4) | (c.shared ? 128 : 0) | (c.did << 8));

export const contextPresent = (entry: number): boolean => (entry & 1) !== 0;
export const contextTypeOf = (entry: number): number => (entry >> 2) & 3;
export const contextLevels = (entry: number): number => (entry >> 4) & 7;
export const contextShared = (entry: number): boolean => (entry & 128) !== 0;
export const contextDid = (entry: number): number => (entry >>> 8) & 0xffff;
export const contextRoot = (entry: number): number => Math.floor(entry / ROOT_SCALE);
