// Birth of a domain: its record, shared-info page, p2m root and I/O tables. It can hold no memory yet: max_pages is 0.
import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { iommuDomainInit } from '../iommu/iommu.ts';
import { sharing } from '../iommu/sharing.ts';
import { p2mInit, p2mTeardown } from '../p2m/lifecycle.ts';
import type { Domain } from './domain.ts';
import { domainFeature, domainRecord, domainState, MAX_VCPUS } from './domain-record.ts';
import { allocAnonymous, freeAnonymous } from './memory.ts';
import { dropPendingScrub } from './pending-scrub.ts';

export interface DomainSpec {
  /** 0 = the next unused number. */
  readonly domid: number;
  readonly name: string;
  readonly hvm: boolean;
  readonly hap: boolean;
  readonly iommu: boolean;
  readonly noSharept: boolean;
  readonly deviceModel: boolean;
  readonly vcpus: number;
}

const NAME_LENGTH = 32;

/**
 * A new domain, paused by its creator, or -EINVAL (flags that contradict each other or the host), -EEXIST (number taken),
 * -ENOMEM (no slot, no memory). `hardware` makes dom0. Caller: boot, or createdomain under the domctl lock.
 */
export function createDomain(h: Host, spec: DomainSpec, hardware = false): Domain | number {
  const refused = checkSpec(h, spec);
  if (refused !== 0) return refused;
  const d = h.claimSlot(spec.domid, hardware);
  if (d === 'exists') return -errno.EEXIST;
  if (!d) return -errno.ENOMEM;
  d.r.features = featuresOf(h, spec, hardware);
  d.r.vcpus = spec.vcpus;
  d.r.pauseCount = 1;
  // The slot's previous owner may still be cached by a CPU under the same key.
  h.tlbs.requestFlush(d, h.config.pcpus);
  d.r.nameLength = Math.min(spec.name.length, NAME_LENGTH);
  for (let i = 0; i < d.r.nameLength; i++) d.r.name[i] = spec.name.charCodeAt(i);
  const rc = furnish(h, d);
  if (rc === 0) return d;
  undo(h, d);
  return rc;
}

function checkSpec(h: Host, spec: DomainSpec): number {
  if (spec.vcpus < 1 || spec.vcpus > MAX_VCPUS) return -errno.EINVAL;
  if (spec.hap && (!spec.hvm || !h.config.hap)) return -errno.EINVAL;
  if (spec.iommu && !h.config.iommuEnabled) return -errno.EINVAL;
  if (spec.noSharept && !spec.iommu) return -errno.EINVAL;
  if (spec.deviceModel && !spec.hvm) return -errno.EINVAL;
  return 0;
}

/** dom0 is strict here, so its I/O tables follow its p2m like any other's. */
function featuresOf(h: Host, spec: DomainSpec, hardware: boolean): number {
  const shared = spec.iommu && spec.hap && !spec.noSharept && sharing(h.config).shared;
  return (
    (shared ? domainFeature.hapPtShare : 0) |
    (spec.iommu && !shared ? domainFeature.needSync : 0) |
    (spec.hvm ? domainFeature.hvm : 0) |
    (spec.hap ? domainFeature.hap : 0) |
    (spec.iommu ? domainFeature.iommu : 0) |
    (spec.noSharept ? domainFeature.noSharept : 0) |
    (spec.deviceModel ? domainFeature.deviceModel : 0) |
    (hardware ? domainFeature.hardware : 0)
  );
}

function furnish(h: Host, d: Domain): number {
  h.grants.of(d).reset();
  const shared = allocAnonymous(h);
  if (shared < 0) return -errno.ENOMEM;
  h.frames.fillBlock(shared as Mfn, 1, d.domid, 1, frameFlag.allocated | frameFlag.special);
  d.r.sharedInfo = shared + 1;
  if (d.isTranslated) {
    const rc = p2mInit(h, d);
    if (rc !== 0) return rc;
  }
  return d.has('iommu') ? iommuDomainInit(h, d) : 0;
}

/** Nobody but its creator knows the domain: no stage of an ordinary death is needed. */
function undo(h: Host, d: Domain): void {
  Atomics.store(d.r.words, domainRecord.at.isDying, 1);
  if (d.isTranslated) p2mTeardown(h, d, () => false);
  freeSharedInfo(h, d);
  h.releaseSlot(d);
}

/** Xen's own pages of the domain (destroy, stage g). */
export function freeSharedInfo(h: Host, d: Domain): void {
  if (d.r.sharedInfo === 0) return;
  const m = (d.r.sharedInfo - 1) as Mfn;
  d.r.sharedInfo = 0;
  h.frames.m2p[m] = 0;
  h.frames.scrub(m, 1);
  freeAnonymous(h, m);
}

/** First unpause: the builder is done. */
export function finishCreation(h: Host, d: Domain): void {
  if (d.r.creationFinished !== 0) return;
  dropPendingScrub(h, d);
  d.r.creationFinished = 1;
  Atomics.compareExchange(d.r.words, domainRecord.at.state, domainState.building, domainState.live);
}
