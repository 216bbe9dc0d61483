/** The API key: in this tab's memory and session storage, nowhere else. */

const PLACE = "chiasm-api-key";

class ApiKey {
  value = $state(sessionStorage.getItem(PLACE) ?? "");
  wanted = $state(false);

  use(key: string): void {
    this.value = key.trim();
    if (this.value) sessionStorage.setItem(PLACE, this.value);
    else sessionStorage.removeItem(PLACE);
  }
}

export const apiKey = new ApiKey();
