// What a grant operation answers for each of its parts (GNTST_*), and the flags of its calls.

export const gntst = {
  okay: 0,
  generalError: -1,
  badDomain: -2,
  badGntref: -3,
  badHandle: -4,
  badVirtAddr: -5,
  badDevAddr: -6,
  noDeviceSpace: -7,
  permissionDenied: -8,
  badPage: -9,
  badCopyArg: -10,
  addressTooBig: -11,
  eagain: -12,
  noSpace: -13,
} as const;

/** GNTMAP_*: flags of a map operation, and of a handle. */
export const gntmap = { device: 1, host: 2, readonly: 4, application: 8, containsPte: 16 } as const;

/** GNTCOPY_*: which side names a grant reference. */
export const gntcopy = { sourceGref: 1, destGref: 2 } as const;
