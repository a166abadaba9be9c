"""The simulator's rule-based driver in three manners: a careful one, one that keeps right, one that hurries.

``highway-env``'s own cars keep their distance by IDM (Treiber, Hennecke and Helbing 2000) and change lanes by
MOBIL (Kesting, Treiber and Helbing 2007). Here such a driver looks at the road from the place of ours, and
what it would do is told as one of our driver's five actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from entanglement.archive import DataError

__all__ = ["MANNERS", "Manner"]

#: The places of the actions among those of the simulator.
_LEFT, _KEEP_GOING, _RIGHT, _FASTER, _SLOWER = range(5)
#: An acceleration (m/s²) beyond which the driver is said to go faster, or slower.
_BEYOND = 1.0


@dataclass(frozen=True)
class Manner:
    """How the rule-based driver drives.

    Attributes:
        speed: that it wants, m/s.
        gap: that it keeps to the car in front, s.
        sides: lanes that it may change to, from its own: -1 left, 1 right.
        gain: of acceleration (m/s²) for which it changes lane; below 0, what it would give up for that.
    """

    speed: float
    gap: float = 1.5
    sides: tuple[int, ...] = (-1, 1)
    gain: float = 0.2

    def action(self, environment: Any) -> int:
        """Return what it does in our driver's place.

        Args:
            environment: of ``highway-env``; is left as it was.

        Raises:
            DataError: highway-env is not installed.
        """
        try:
            from highway_env.vehicle.behavior import IDMVehicle
        except ImportError as error:
            raise DataError(
                "the package 'highway-env' is not installed; install requirements.lock."
            ) from error
        road, own = environment.road, environment.vehicle
        it = IDMVehicle.create_from(own)
        it.target_speed, it.TIME_WANTED, it.LANE_CHANGE_MIN_ACC_GAIN = self.speed, self.gap, self.gain
        vehicles = road.vehicles
        road.vehicles = [it if vehicle is own else vehicle for vehicle in vehicles]
        try:
            start, end, lane = it.lane_index
            for side in self.sides:
                other = (start, end, lane + side)
                if other in road.network.side_lanes(it.lane_index) and it.mobil(other):
                    return _LEFT if side < 0 else _RIGHT
            front, rear = road.neighbour_vehicles(it, it.lane_index)
            wanted = float(np.real(it.acceleration(it, front, rear)))
        finally:
            road.vehicles = vehicles
        return _FASTER if wanted > _BEYOND else _SLOWER if wanted < -_BEYOND else _KEEP_GOING


#: One for each objective: safety, lane, progress. What is not said otherwise is the simulator's own setting.
MANNERS: tuple[Manner, ...] = (
    Manner(speed=20, gap=3.0),
    Manner(speed=25, sides=(1,), gain=-2.0),
    Manner(speed=30),
)
