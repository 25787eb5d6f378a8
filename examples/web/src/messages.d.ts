/** What the page and its worker say to each other. Numbers grow: the worker works for the largest only. */

import type { Device } from "./model.js";
import type { Window } from "./tiles.js";

declare global {
  /** Of the SDK that the page was built from: build.mjs writes it in. */
  const SDK_VERSION: string;
}

/** devices: in the order of preference. threads: of the processor. */
export type Load = { kind: "load"; devices: Device[]; threads: number };

export type Photo = { kind: "photo"; number: number; rgba: Uint8ClampedArray; height: number; width: number };

/** part: the tile to draw, in LR pixels; null: the whole photo. auto: τ only where the photo has texture. */
export type Draw = { kind: "draw"; number: number; part: Window | null; tau: number; auto: boolean; seed: bigint };

export type FromPage = Load | Photo | Draw | { kind: "stop"; number: number };

export type Ready = {
  kind: "ready";
  name: string;
  sha256: string;
  scheme: number;
  scale: number;
  multiple: number;
  tau: number;
  device: Device;
  threads: number;
};

/** rgba: height×width×4, at this place of the large picture. */
export type TileDrawn = Window & { kind: "tile"; number: number; done: number; total: number; rgba: Uint8ClampedArray };

export type FromWorker =
  | Ready
  | TileDrawn
  | { kind: "done"; number: number; milliseconds: number }
  | { kind: "failed"; number: number; why: string };
