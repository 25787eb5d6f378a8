/** How long something takes, in words. @param {number} milliseconds */
export function about(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1000);
  return seconds < 100 ? `about ${seconds} s` : `about ${Math.ceil(seconds / 60)} min`;
}
