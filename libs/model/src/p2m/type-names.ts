// The p2m types' names as people read and write them. The numbers are types.ts's.

/** Xen's names without the `p2m_`, by number. */
export const p2mTypeNames = [
  'ram_rw',
  'invalid',
  'ram_logdirty',
  'ram_ro',
  'mmio_dm',
  'mmio_direct',
  'populate_on_demand',
  'grant_map_rw',
  'grant_map_ro',
  'ram_paging_out',
  'ram_paged',
  'ram_paging_in',
  'ram_shared',
  'ram_broken',
  'map_foreign',
  'ioreq_server',
  'lent',
  'lent_absent',
] as const;
