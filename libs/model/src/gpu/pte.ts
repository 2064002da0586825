// Codec of one entry of a GPU page table, guest's or shadow: frame * 16 + bits, an integer below 2^53. 0 = absent. What the frame
// means (gfn, bus frame, page of the shadow arena) is known by whoever holds the table. Tables have 512 entries and three or
// four levels; level 1 maps pages. Model: no huge pages, no caching bits.
import { INVALID_DFN, MAX_GFN } from '../frames/addresses.ts';

export const PTE_PRESENT = 1;
export const PTE_WRITE = 2;
export const ENTRIES = 512;

export const makePte = (frame: number, bits: number): number => frame * 16 + bits;
export const pteFrame = (pte: number): number => Math.floor(pte / 16);
export const ptePresent = (pte: number): boolean => pte % 2 === 1;
export const pteWritable = (pte: number): boolean => Math.floor(pte / 2) % 2 === 1;

/** A bus frame that no IOMMU translates: what a mediator writes where it could not give a frame ("all ones"). */
export const POISON = INVALID_DFN;

/** Present, and of a frame that can exist. A guest writes what it likes. */
export const isUsable = (pte: number): boolean => ptePresent(pte) && pteFrame(pte) <= MAX_GFN;

/** Which entry of a table of `level` (1 = leaves) a page of graphics memory is found through. */
export const entryIndex = (page: number, level: number): number => Math.floor(page / ENTRIES ** (level - 1)) % ENTRIES;
