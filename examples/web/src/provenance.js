/** How a picture was made, in its PNG: the XMP packet that srflow-upscale writes, and that its --from-output reads. */

const NAMESPACE = "https://srflow-sdk.dev/ns/1.0/";
const RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const BEHIND_HEADER = 8 + 25; // the signature and the first chunk, which all PNGs begin with

/**
 * A PNG with a record of how it was made.
 * @param {Blob} png @param {Record<string, string>} properties as srflow_sdk/files/provenance.py names them
 */
export async function recorded(png, properties) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const text = chunk("iTXt", new TextEncoder().encode(`XML:com.adobe.xmp\0\0\0\0\0${packet(properties)}`));
  return new Blob([bytes.subarray(0, BEHIND_HEADER), text, bytes.subarray(BEHIND_HEADER)], { type: "image/png" });
}

/** The sha256 of a file in hexadecimal digits; "" where browsers do not offer it: on pages without https. @param {Blob} file */
export async function sha256(file) {
  if (!globalThis.crypto?.subtle) return "";
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Record<string, string>} properties */
export function packet(properties) {
  const all = Object.entries(properties).map(([name, value]) => ` srflow:${name}="${quoted(value)}"`).join("");
  return `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">` +
    `<rdf:RDF xmlns:rdf="${RDF}"><rdf:Description rdf:about="" xmlns:srflow="${NAMESPACE}"${all}/></rdf:RDF>` +
    `</x:xmpmeta><?xpacket end="w"?>`;
}

/** Text within an attribute. What XML cannot hold is percent-encoded, and so is the percent sign. @param {string} text */
function quoted(text) {
  const safe = text.replace(/\p{Surrogate}/gu, "\ufffd").replace(/[%\x00-\x1f\x7f-\x9f\ufffe\uffff]/g, encodeURIComponent);
  return safe.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`);
}

/** @param {string} kind @param {Uint8Array} data */
function chunk(kind, data) {
  const made = new Uint8Array(data.length + 12), view = new DataView(made.buffer);
  view.setUint32(0, data.length);
  made.set(new TextEncoder().encode(kind), 4);
  made.set(data, 8);
  view.setUint32(data.length + 8, crc32(made.subarray(4, data.length + 8)));
  return made;
}

/** The checksum of PNG's chunks. @param {Uint8Array} data */
function crc32(data) {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
