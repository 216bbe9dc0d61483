/** How pictures are looked at; the same for every part until changed. */

class Sight {
  heat = $state(true);
  opacity = $state(0.75);
  byAnomaly = $state(true);
}

export const sight = new Sight();
