// squeezed's reservations: memory that is promised to a domain before there is one. They stand in xenstore as squeezed keeps
// them, /squeezed/state/SERVICE/ID, here under dom0's directory. Owns that state and the protocol's small steps; freeing the
// memory is squeezed-loop.ts.
import { readKb } from './memory-ops.ts';
import type { ToolstackPorts } from './ports.ts';

type Store = Pick<ToolstackPorts, 'xenstore'>;

const DOM0 = 0;
const STATE = 'squeezed/state';
export const INITIAL_RESERVATION = 'memory/initial-reservation';
const RESERVATION_ID = 'memory/reservation-id';

/** Whose reservation, and which. */
export interface Reservation {
  readonly service: string;
  /** Unique among the service's; letters, digits and dashes. */
  readonly id: string;
}

const pathOf = ({ service, id }: Reservation): string => `${STATE}/${service}/${id}`;
const inTransferOf = (reservation: Reservation): string => `${pathOf(reservation)}/in-transfer`;

/** A service begins anew: what it had reserved before is free. */
export function login({ xenstore }: ToolstackPorts, service: string): void {
  xenstore.remove(DOM0, `${STATE}/${service}`);
}

export function addReservation({ xenstore }: Store, reservation: Reservation, kb: number): void {
  xenstore.write(DOM0, pathOf(reservation), String(kb));
}

export function deleteReservation({ xenstore }: Store, reservation: Reservation): void {
  xenstore.remove(DOM0, pathOf(reservation));
}

/** What is promised beside the domains there are: one in transfer to a domain is counted with that domain. */
export function totalReservedKb(ports: Store, domids: readonly number[]): number {
  const { xenstore } = ports;
  let total = 0;
  for (const service of xenstore.list(DOM0, STATE)) {
    for (const id of xenstore.list(DOM0, `${STATE}/${service}`)) {
      const to = readKb(ports, DOM0, inTransferOf({ service, id }));
      if (to !== null && domids.includes(to)) continue;
      total += readKb(ports, DOM0, pathOf({ service, id })) ?? 0;
    }
  }
  return total;
}

/** The domain exists now, and may have so much. false: there is no such reservation (Unknown_reservation). */
export function transferReservation(ports: ToolstackPorts, reservation: Reservation, domid: number): boolean {
  const { port, xenstore } = ports;
  const kb = readKb(ports, DOM0, pathOf(reservation));
  if (kb === null) return false;
  xenstore.write(domid, INITIAL_RESERVATION, String(kb));
  xenstore.write(domid, RESERVATION_ID, reservation.id);
  xenstore.write(DOM0, inTransferOf(reservation), String(domid));
  port.call({ op: 'max_mem', domid, maxKb: kb });
  return true;
}
