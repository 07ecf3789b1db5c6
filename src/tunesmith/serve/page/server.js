// Requests, and what went wrong with one in words for people. The key stays in memory.

export class Trouble extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

let key = "";

export const hasKey = () => key !== "";

export function useKey(given) {
  if (!/^[!-~]*$/.test(given)) throw new Trouble("A key has no spaces, and no letters with accents.");
  key = given;
}

/** The answer of a path beside this page, if it is a good one. */
export async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let reply;
  try {
    reply = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Trouble(options.signal?.aborted ? "Stopped." : "The server does not answer. Is it still running?");
  }
  if (reply.ok) return reply;
  let said = "";
  try {
    said = String((await reply.json()).error ?? "");
  } catch {
    // Something between the page and the server has answered.
  }
  throw new Trouble(inWords(reply.status, said, reply.headers), reply.status);
}

function inWords(status, said, headers) {
  if (status === 429) {
    const seconds = Number(headers.get("retry-after")) || 1;
    return `The server has too much to do just now. Try again in ${seconds} second${seconds === 1 ? "" : "s"}.`;
  }
  if (status === 503) return `The server cannot answer now${said && ` (${said})`}. Try again in a moment.`;
  if (status === 500) return `The server failed. Its log has more, by ${headers.get("x-request-id") ?? "its time"}.`;
  return said ? `${capital(said)}.` : `The server refused this (status ${status}).`;
}

export function post(path, value) {
  return call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });
}
