/** What the page and its worker say to each other. Numbers grow: the worker works for the largest only. */

import type { Device } from "./model.js";
import type { Window } from "./tiles.js";

declare global {
  /** Of the SDK that the page was built from: build.mjs writes it in. */
  const SDK_VERSION: string;
}

/** devices: in the order of preference. threads: of the processor. */
export type Load = { kind: "load"; devices: Device[]; threads: number };

/** file: what the photo was decoded from. */
export type Photo = {
  kind: "photo";
  number: number;
  rgba: Uint8ClampedArray;
  height: number;
  width: number;
  file: Uint8Array;
};

/** part: the tile to draw, in LR pixels; null: the whole photo. auto: less τ on flat areas. */
export type Draw = { kind: "draw"; number: number; part: Window | null; tau: number; auto: boolean; seed: bigint };

export type FromPage = Load | Photo | Draw | { kind: "stop"; number: number };

/** The model that draws. */
export type Loaded = {
  name: string;
  sha256: string;
  scheme: number;
  scale: number;
  multiple: number;
  tau: number;
  device: Device;
  threads: number;
};

export type Ready = Loaded & { kind: "ready" };

/** The photo's model is fetched. why: it suits the photo. */
export type Fetching = { kind: "fetching"; number: number; name: string; why: string };

/**
 * The photo can be drawn. suited: the model that suits it; another one draws if that could not be loaded. whole: how many
 * milliseconds drawing all of it may take, here and in Done.
 */
export type Taken = Loaded & { kind: "taken"; number: number; suited: string; why: string; suits: boolean; whole: number };

/** rgba: height×width×4, at this place of the large picture. */
export type TileDrawn = Window & { kind: "tile"; number: number; done: number; total: number; rgba: Uint8ClampedArray };

/** milliseconds: what it may take. Not said of a part that is only sampled again. */
export type Begun = { kind: "begun"; number: number; milliseconds: number };

export type Done = { kind: "done"; number: number; milliseconds: number; whole: number };

export type FromWorker =
  | Ready
  | Fetching
  | Taken
  | Begun
  | TileDrawn
  | Done
  | { kind: "failed"; number: number; why: string };
